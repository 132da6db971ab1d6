(SELECT COUNT(DISTINCT bound) FROM UNNEST(bounds) AS bound WHERE bound <= value)
