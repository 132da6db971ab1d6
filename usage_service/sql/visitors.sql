-- forget: deletes the visitor keys of epochs before $1; how many.
SELECT forget_visitors($1);
