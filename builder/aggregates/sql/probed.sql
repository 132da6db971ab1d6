STRUCT({{probe}} AS probe, value_{{probe}} AS value)
