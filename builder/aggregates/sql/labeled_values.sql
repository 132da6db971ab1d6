ARRAY(SELECT AS STRUCT labeled.key, labeled.value.values FROM UNNEST({{column}}) AS labeled)
