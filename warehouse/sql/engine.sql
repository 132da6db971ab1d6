-- attach: the seeded file, which no query can change
ATTACH ? AS store (READ_ONLY);

-- allow: the directory of the clients' tables, where the first change makes a file, and DuckDB its logs
SET GLOBAL allowed_directories = ?;

-- lock_down: no query can load an extension, read another file or change a setting; floating point fails as in BigQuery
SET GLOBAL TimeZone = 'UTC';
SET GLOBAL ieee_floating_point_ops = false;
SET GLOBAL autoinstall_known_extensions = false;
SET GLOBAL autoload_known_extensions = false;
SET GLOBAL enable_external_access = false;
SET GLOBAL lock_configuration = true;
