-- The pings of the senders, sorted by time; one in 200 has lost its client id.
INSERT INTO "{{schema}}"."{{table}}"
SELECT
    submitted,
    sample_id,
    {
        'client_id': CASE WHEN ping % 200 > 0 THEN client_id END,
        'os': os,
        'app_build': app_build,
        'app_channel': app_channel,
        'app_display_version': version
    },
    {'isp': {'name': provider}},
    {{metrics}}
FROM senders
{{draws}};
