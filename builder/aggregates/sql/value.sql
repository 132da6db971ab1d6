STRUCT({{probe}} AS probe, {{value}} AS value)
