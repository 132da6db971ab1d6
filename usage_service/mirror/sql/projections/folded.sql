(
    SELECT * FROM `{{view}}` WHERE position <= @upto AND position NOT IN UNNEST(@left_out)
  )
