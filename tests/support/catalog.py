"""What a database holds apart from rows, as text to compare: from tables and columns to functions and grants."""

from __future__ import annotations

from tests.support.servers import Connection

OF_PUBLIC = """
SELECT 'relation', format('%s %s %s %s', c.relname, c.relkind, c.relpersistence, c.reloptions)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
                        a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'constraint', format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'view', format('%s %s', viewname, definition) FROM pg_views WHERE schemaname = 'public'
UNION ALL
SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function', pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')
UNION ALL
SELECT 'grant', format('%s: %s may %s', o.what, a.grantee::regrole, a.privilege_type)
FROM (
    SELECT oid::regclass::text, relacl, 'r'::"char", relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT oid::regprocedure::text, proacl, 'f', proowner FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'schema ' || nspname, nspacl, 'n', nspowner FROM pg_namespace WHERE nspname = 'public'
) AS o (what, acl, kind, owner)
CROSS JOIN LATERAL aclexplode(coalesce(o.acl, acldefault(o.kind, o.owner))) a
UNION ALL
SELECT 'row', format('metric type %s', t) FROM metric_types t
UNION ALL
SELECT 'row', format('hidden probes %s', h) FROM hidden_probes h
UNION ALL
SELECT 'row', format('projection %s %s %s %s', name, version, tables, settings) FROM projections
"""


async def catalog(database: Connection) -> set[tuple[str, str]]:
    """Return everything of the schema `public`, and the rows that come with it: kind and description."""
    return {(kind, text) for kind, text in await database.fetch(OF_PUBLIC)}
