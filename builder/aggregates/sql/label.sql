SUBSTR(REPLACE(REPLACE({{text}}, r'\x00', ''), @nul, ''), 1, 200)
