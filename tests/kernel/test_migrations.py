"""The migrations lead to what the models say, and back: compared by what PostgreSQL itself has in its catalogues."""

from __future__ import annotations

from typing import Any

import flask_migrate
import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.conftest import conninfo, settings_for
from wallet_app import create_app, service
from wallet_app.db import Base, close_connections

CATALOGUE = {
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               pg_get_expr(d.adbin, d.adrelid)
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
           AND NOT a.attisdropped AND c.relname <> 'alembic_version'
         ORDER BY 1, 2
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid), convalidated
          FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND contype <> 'n'
           AND conrelid::regclass::text <> 'alembic_version'
         ORDER BY 1, 2
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
         WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2
    """,
    "tables": """
        SELECT relname, relkind::text, reloptions FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version'
         ORDER BY 1
    """,
    "sequences": "SELECT sequencename, data_type::text, start_value, increment_by, cycle FROM pg_sequences ORDER BY 1",
}
BESIDE_THE_MODELS = {
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    "triggers": """
        SELECT tgname, tgenabled::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1
    """,
    "functions": """
        SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1
    """,
    "rights": """
        SELECT relname, array_agg(acl::text ORDER BY acl::text)
          FROM pg_class, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner) AS usual,
               unnest(coalesce(relacl, usual)) AS acl
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S') AND relname <> 'alembic_version'
         GROUP BY 1 UNION ALL
        SELECT nspname, array_agg(acl::text ORDER BY acl::text) FROM pg_namespace, unnest(nspacl) AS acl
         WHERE nspname = 'public' GROUP BY 1
         ORDER BY 1
    """,
}


def schema(url: URL, queries: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}  # type: ignore[arg-type]


def test_up_down_and_up_again_leaves_the_same_schema(empty: URL) -> None:
    everything = CATALOGUE | BESIDE_THE_MODELS
    before = schema(empty, everything)
    with create_app(settings_for(empty)).app_context():
        flask_migrate.upgrade()
        first = schema(empty, everything)
        flask_migrate.downgrade(revision="base")
        assert schema(empty, everything) == before
        flask_migrate.upgrade()
        assert schema(empty, everything) == first
        service.seed(demo=True)
        assert service.get_wallet(3).balance == 500
        close_connections()
    assert [len(rows) > 0 for rows in first.values()] == [True] * len(first), "an empty comparison proves nothing"


def test_each_migration_goes_down_and_up_on_its_own(empty: URL) -> None:
    everything = CATALOGUE | BESIDE_THE_MODELS
    with create_app(settings_for(empty)).app_context():
        flask_migrate.upgrade()
        top = schema(empty, everything)
        steps = []
        while schema(empty, CATALOGUE)["tables"]:
            flask_migrate.downgrade(revision="-1")
            steps.append(schema(empty, everything))
        for step in (*reversed(steps[:-1]), top):
            flask_migrate.upgrade(revision="+1")
            assert schema(empty, everything) == step
        close_connections()


def test_the_migrated_schema_is_the_models(empty: URL, database: URL) -> None:
    engine = create_engine(empty.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION pg_trgm"))
        Base.metadata.create_all(connection)
    engine.dispose()
    modelled, migrated = schema(empty, CATALOGUE), schema(database, CATALOGUE)
    for part in CATALOGUE:
        assert migrated[part] == modelled[part], part


def test_a_second_upgrade_finds_nothing_to_do(database: URL) -> None:
    everything = CATALOGUE | BESIDE_THE_MODELS
    before = schema(database, everything)
    with create_app(settings_for(database)).app_context():
        flask_migrate.upgrade()
        close_connections()
    assert schema(database, everything) == before
