{{value}} AS value_{{probe}}
