-- BigQuery's functions where DuckDB's own would be silently different. Each is checked against BigQuery's
-- reference implementation in tests/warehouse/test_warehouse_translation_is_faithful.py.
-- Division by zero, logarithms out of range and overflow of INT64 fail by DuckDB's own settings.

CREATE MACRO bq_finite(x) AS
    CASE WHEN x IS NULL OR isfinite(x) THEN x ELSE error('Floating point error in expression') END;
CREATE MACRO bq_safe_divide(a, b) AS
    CASE WHEN isfinite(a / nullif(b, 0)) THEN a / nullif(b, 0) END;
CREATE MACRO bq_pow(x, y) AS bq_finite(pow(x, y));
CREATE MACRO bq_exp(x) AS bq_finite(exp(x));
CREATE MACRO bq_log(x, base) AS ln(x) / ln(base);

-- BigQuery shifts INT64 to the right as if it were unsigned, and by 64 and more to 0.
CREATE MACRO bq_shift_right(x, n) AS
    CASE WHEN n < 0 THEN error('Bitwise shift by negative offset') WHEN n = 0 THEN x WHEN n >= 64 THEN 0
         ELSE (x >> n) & (9223372036854775807 >> (n - 1)) END;
CREATE MACRO bq_shift_left(x, n) AS
    CASE WHEN n < 0 THEN error('Bitwise shift by negative offset') WHEN n >= 64 THEN 0 ELSE x << n END;

CREATE MACRO bq_at(list, i) AS
    CASE WHEN i < 0 OR i >= len(list) THEN error('Array index ' || i || ' is out of bounds') ELSE list[i + 1] END;
CREATE MACRO bq_safe_at(list, i) AS CASE WHEN i >= 0 AND i < len(list) THEN list[i + 1] END;

CREATE MACRO bq_substr(s, p) AS substr(s, CASE WHEN p = 0 OR p < -length(s) THEN 1 ELSE p END);
CREATE MACRO bq_substr_length(s, p, n) AS
    CASE WHEN n < 0 THEN error('Third argument in SUBSTR() cannot be negative')
         ELSE substr(s, CASE WHEN p = 0 OR p < -length(s) THEN 1 ELSE p END, n) END;
-- Lower-case I with a dot and the final sigma are where DuckDB's case mapping is too simple.
CREATE MACRO bq_lower(s) AS
    CASE WHEN contains(s, 'İ') OR contains(s, 'Σ')
         THEN error('The embedded warehouse cannot translate LOWER of İ and Σ faithfully') ELSE lower(s) END;
CREATE MACRO bq_upper(s) AS
    CASE WHEN strlen(s) > length(s)
         THEN error('The embedded warehouse cannot translate UPPER of other than ASCII letters faithfully')
         ELSE upper(s) END;
CREATE MACRO bq_chr(n) AS
    CASE WHEN n < 0 OR n > 1114111 OR n BETWEEN 55296 AND 57343 THEN error('Invalid codepoint ' || n)
         ELSE chr(CAST(n AS INTEGER)) END;
CREATE MACRO bq_left(s, n) AS
    CASE WHEN n < 0 THEN error('Second argument in LEFT() cannot be negative') ELSE left(s, n) END;
CREATE MACRO bq_right(s, n) AS
    CASE WHEN n < 0 THEN error('Second argument in RIGHT() cannot be negative') ELSE right(s, n) END;
CREATE MACRO bq_regexp_extract(s, pattern, part) AS
    CASE WHEN regexp_matches(s, pattern) THEN regexp_extract(s, pattern, part) END;

CREATE MACRO bq_is_int64(s) AS regexp_full_match(s, '\s*([+-]?[0-9]+|0[xX][0-9a-fA-F]+)\s*');
CREATE MACRO bq_is_float64(s) AS
    regexp_full_match(s, '\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*');
CREATE MACRO bq_is_date(s) AS regexp_full_match(s, '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}');
CREATE MACRO bq_is_timestamp(s) AS regexp_full_match(
    s, '[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?)?(Z| ?UTC|[+-][0-9]{2}:[0-9]{2})?');

-- 15 digits, or the 17 that tell every double apart.
CREATE MACRO bq_string_from_float64(x) AS
    CASE WHEN x = 0 THEN '0'
         WHEN CAST(printf('%.15g', x) AS DOUBLE) = x THEN printf('%.15g', x) ELSE printf('%.17g', x) END;
CREATE MACRO bq_safe_string_from_float64(x) AS bq_string_from_float64(x);
CREATE MACRO bq_int64_from_float64(x) AS CAST(round(x) AS BIGINT);
CREATE MACRO bq_safe_int64_from_float64(x) AS TRY_CAST(round(x) AS BIGINT);
CREATE MACRO bq_int64_from_string(x) AS
    CASE WHEN x IS NULL OR bq_is_int64(x) THEN CAST(x AS BIGINT) ELSE error('Bad int64 value: ' || x) END;
CREATE MACRO bq_safe_int64_from_string(x) AS
    CASE WHEN regexp_full_match(x, '\s*[+-]0[xX].*')
         THEN error('The embedded warehouse cannot translate SAFE_CAST of signed hexadecimals faithfully')
         WHEN bq_is_int64(x) THEN TRY_CAST(x AS BIGINT) END;
CREATE MACRO bq_float64_from_string(x) AS
    CASE WHEN x IS NULL OR bq_is_float64(x) THEN CAST(x AS DOUBLE) ELSE error('Bad double value: ' || x) END;
CREATE MACRO bq_safe_float64_from_string(x) AS CASE WHEN bq_is_float64(x) THEN TRY_CAST(x AS DOUBLE) END;
CREATE MACRO bq_bool_from_string(x) AS
    CASE WHEN x IS NULL OR lower(x) IN ('true', 'false') THEN lower(x) = 'true'
         ELSE error('Bad bool value: ' || x) END;
CREATE MACRO bq_safe_bool_from_string(x) AS CASE WHEN lower(x) IN ('true', 'false') THEN lower(x) = 'true' END;
CREATE MACRO bq_date_from_string(x) AS
    CASE WHEN x IS NULL OR bq_is_date(x) THEN CAST(x AS DATE) ELSE error('Invalid date: ''' || x || '''') END;
CREATE MACRO bq_safe_date_from_string(x) AS CASE WHEN bq_is_date(x) THEN TRY_CAST(x AS DATE) END;
CREATE MACRO bq_timestamp_from_string(x) AS
    CASE WHEN x IS NULL OR bq_is_timestamp(x) THEN CAST(x AS TIMESTAMPTZ)
         ELSE error('Invalid timestamp: ''' || x || '''') END;
CREATE MACRO bq_safe_timestamp_from_string(x) AS
    CASE WHEN bq_is_timestamp(x) THEN TRY_CAST(x AS TIMESTAMPTZ) END;

CREATE MACRO bq_parse_timestamp(s, format) AS CAST(strptime(s, format) AS TIMESTAMPTZ);
CREATE MACRO bq_safe_parse_timestamp(s, format) AS CAST(try_strptime(s, format) AS TIMESTAMPTZ);
CREATE MACRO bq_parse_date(s, format) AS CAST(strptime(s, format) AS DATE);
CREATE MACRO bq_safe_parse_date(s, format) AS CAST(try_strptime(s, format) AS DATE);
-- TIMESTAMP_DIFF counts whole units, not the boundaries between them.
CREATE MACRO bq_timestamp_diff(a, b, unit_us) AS (epoch_us(a) - epoch_us(b)) // unit_us;
CREATE MACRO bq_floor_divide(a, b) AS a // b - CAST(a % b < 0 AS BIGINT);

-- A stored array is never NULL, and has no NULL elements.
CREATE MACRO bq_stored_array(list) AS
    CASE WHEN list IS NULL THEN [] WHEN list_count(list) < len(list)
         THEN error('Array cannot have a null element; error in writing field') ELSE list END;

CREATE MACRO bq_to_hex(b) AS lower(hex(b));
CREATE MACRO bq_sha256(s) AS unhex(sha256(s));
-- Objects and arrays are no value, and a text that is no JSON has none.
CREATE MACRO bq_json_value(s, path) AS
    CASE WHEN json_valid(s) AND json_type(s, path) NOT IN ('OBJECT', 'ARRAY', 'NULL') THEN json_extract_string(s, path) END;
CREATE MACRO bq_md5(s) AS unhex(md5(s));
-- The pieces of TO_JSON_STRING. An integer that a double does not hold is a text.
CREATE MACRO bq_json_of_int64(x) AS
    CASE WHEN x IS NULL THEN 'null' WHEN x BETWEEN -9007199254740992 AND 9007199254740992 THEN CAST(x AS VARCHAR)
         ELSE '"' || CAST(x AS VARCHAR) || '"' END;
CREATE MACRO bq_json_of_bool(x) AS coalesce(CAST(x AS VARCHAR), 'null');
CREATE MACRO bq_json_of_string(x) AS
    coalesce(replace(replace(CAST(to_json(x) AS VARCHAR), chr(8232), '\u2028'), chr(8233), '\u2029'), 'null');
CREATE MACRO bq_json_of_strings(list) AS
    CASE WHEN list IS NULL THEN 'null'
         ELSE '[' || array_to_string(list_transform(list, lambda x: bq_json_of_string(x)), ',') || ']' END;
-- BigQuery keeps numbers as they are spelled, and spells texts anew.
CREATE MACRO bq_json_query(s, path) AS
    CASE WHEN NOT json_valid(s) OR json_type(s, path) = 'NULL' THEN NULL
         WHEN json_type(s, path) = 'VARCHAR' THEN bq_json_of_string(json_extract_string(s, path))
         WHEN json_type(s, path) IN ('BOOLEAN', 'BIGINT', 'UBIGINT')
           OR NOT regexp_matches(CAST(json_extract(s, path) AS VARCHAR), '[\\.]|[0-9][eE]')
         THEN CAST(json_extract(s, path) AS VARCHAR)
         WHEN json_type(s, path) IS NOT NULL
         THEN error('The embedded warehouse cannot translate JSON_QUERY of fractions and escapes faithfully') END;
