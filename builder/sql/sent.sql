WITH pings AS (
{{pings}}
),
builds AS (
{{builds}}
),
sent AS (
{{sent}}
)
