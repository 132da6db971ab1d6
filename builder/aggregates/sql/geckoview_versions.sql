-- The version of Gecko that most pings of a build's hour have, by a table of Mozilla's: builds of other hours are left out.
    INNER JOIN (
      SELECT
        FORMAT_TIMESTAMP('%Y%m%d%H', built.build_hour) AS build_hour,
        MAX(built.geckoview_major_version) AS geckoview_version
      FROM
        `{{table}}` AS built
      GROUP BY
        built.build_hour
    ) USING (build_hour)
