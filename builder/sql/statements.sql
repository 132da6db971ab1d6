-- note: notes the statement $2 with its parameters $3 as what reads the pings of the builds $1.
SELECT note_statement($1, $2, $3::text::jsonb);
