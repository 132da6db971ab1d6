-- create_database: the statement that makes the service's database in a new cluster, where it is missing: CREATE DATABASE cannot
-- be conditional, so psql runs the statement that this one answers.
SELECT 'CREATE DATABASE usage' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'usage');
