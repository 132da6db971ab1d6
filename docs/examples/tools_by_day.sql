-- Which tools people leave for, by day: how many links were followed, and by how many people.

CREATE TABLE tools_by_day (
    day   date    NOT NULL,
    tool  text    NOT NULL,
    links integer NOT NULL,
    PRIMARY KEY (day, tool)
);

CREATE TABLE people_by_day (
    day     date NOT NULL,
    tool    text NOT NULL,
    visitor uuid NOT NULL,
    PRIMARY KEY (day, tool, visitor)
);

-- Counts and sets come out the same in whatever order and batches the events arrive.
CREATE FUNCTION fold_tools_by_day(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tools_by_day AS t (day, tool, links)
    SELECT utc_day(occurred_at), data ->> 'tool', count(*)
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'link_followed'
    GROUP BY 1, 2
    ON CONFLICT (day, tool) DO UPDATE SET links = t.links + excluded.links;

    INSERT INTO people_by_day (day, tool, visitor)
    SELECT DISTINCT utc_day(occurred_at), data ->> 'tool', visitor
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'link_followed' AND visitor IS NOT NULL
    ON CONFLICT DO NOTHING;
$$;
