IF(smallest > 0, LOG(smallest, 2), 0) AS first,
      IF(largest > 0, LOG(largest, 2), 0) AS last
