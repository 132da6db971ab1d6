value_{{probe}}
