    -- All pings of the day count, those without the value, too.
    (SELECT * EXCEPT (occurrences) FROM days)
    INNER JOIN (
      SELECT
        client_id, submission_day, origin,
        COUNT(*) AS occurrences
      FROM
        pings
      GROUP BY
        client_id, submission_day, origin
    ) USING (client_id, submission_day, origin)
