STRUCT(
      {{probe}} AS probe,
      MAX(value_{{probe}}) AS largest,
      MIN(value_{{probe}}) AS smallest,
      SUM(DIV(value_{{probe}}, 4294967296)) AS high,
      SUM(MOD(value_{{probe}}, 4294967296)) AS low
    )
