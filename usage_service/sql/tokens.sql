-- valid: the tokens that are valid now.
SELECT digest, name, scopes, expires_at FROM tokens
WHERE revoked_at IS NULL AND expires_at > current_instant()
ORDER BY created_at DESC LIMIT 10000;

-- created: creates a token. $1 name, $2 digest, $3 scopes, $4 for how long.
SELECT * FROM create_token($1, $2, $3, $4);

-- listed: all tokens, newest first.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= current_instant() THEN 'expired' ELSE 'valid' END AS state
FROM tokens ORDER BY created_at DESC, token_id;

-- revoked: revokes the tokens with the id or name $1; how many there were.
SELECT revoke_token($1);
