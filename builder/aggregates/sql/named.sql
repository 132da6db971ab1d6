{{name}} AS (
{{query}}
)
