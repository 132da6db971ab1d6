-- One probe after the other, so that the reader holds the cells of one at a time. A last sort is one worker's work in
-- BigQuery: a statement of a single probe has none.
ORDER BY
  probe
