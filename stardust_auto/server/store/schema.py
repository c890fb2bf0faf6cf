"""The tables. A change of the schema is a new script at the end of ``MIGRATIONS``; times are Unix milliseconds."""

from __future__ import annotations

_FIRST = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE app (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, display_name TEXT NOT NULL DEFAULT '',
  secret_md5 TEXT, enabled INTEGER NOT NULL DEFAULT 1, version TEXT NOT NULL DEFAULT '', category TEXT,
  ping_period INTEGER, period INTEGER, max_samples INTEGER, max_errors INTEGER, timeout INTEGER,
  max_tag_length INTEGER, request_tag_length INTEGER, enable_meter INTEGER NOT NULL DEFAULT 1,
  excludes TEXT NOT NULL DEFAULT '', vip_clients TEXT NOT NULL DEFAULT '',
  allow_control TEXT NOT NULL DEFAULT '', dropped INTEGER NOT NULL DEFAULT 0, dropped_reason TEXT NOT NULL DEFAULT '',
  created INTEGER NOT NULL, last_login INTEGER NOT NULL DEFAULT 0);
CREATE TABLE instance (
  app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE, client_id TEXT NOT NULL,
  ip TEXT NOT NULL DEFAULT '', local_ip TEXT NOT NULL DEFAULT '', machine TEXT NOT NULL DEFAULT '',
  user TEXT NOT NULL DEFAULT '', process_id INTEGER NOT NULL DEFAULT 0, process_name TEXT NOT NULL DEFAULT '',
  command_line TEXT NOT NULL DEFAULT '', version TEXT NOT NULL DEFAULT '', started INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL, last_seen INTEGER NOT NULL, online INTEGER NOT NULL DEFAULT 1,
  cpu REAL NOT NULL DEFAULT 0, memory_mb INTEGER NOT NULL DEFAULT 0, heap_mb INTEGER NOT NULL DEFAULT 0,
  threads INTEGER NOT NULL DEFAULT 0, handles INTEGER NOT NULL DEFAULT 0, connections INTEGER NOT NULL DEFAULT 0,
  collections INTEGER NOT NULL DEFAULT 0, processor_seconds INTEGER NOT NULL DEFAULT 0,
  scope TEXT, worker_id INTEGER, used_keys TEXT NOT NULL DEFAULT '', missed_keys TEXT NOT NULL DEFAULT '',
  config_version INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (app_id, client_id)) WITHOUT ROWID;
CREATE TABLE meter (
  app_id INTEGER NOT NULL, client_id TEXT NOT NULL, time INTEGER NOT NULL, cpu REAL NOT NULL,
  memory_mb INTEGER NOT NULL, heap_mb INTEGER NOT NULL, threads INTEGER NOT NULL);
CREATE INDEX meter_time ON meter (time);
CREATE INDEX meter_app ON meter (app_id, client_id, time);
CREATE TABLE event (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL, client_id TEXT NOT NULL, time INTEGER NOT NULL,
  kind TEXT NOT NULL, name TEXT NOT NULL, remark TEXT NOT NULL);
CREATE INDEX event_app ON event (app_id, time);
CREATE INDEX event_time ON event (time);
CREATE TABLE command (
  id INTEGER PRIMARY KEY AUTOINCREMENT, app_id INTEGER NOT NULL, client_id TEXT, command TEXT NOT NULL, argument TEXT,
  start_time INTEGER NOT NULL DEFAULT 0, expire INTEGER NOT NULL DEFAULT 0, trace_id TEXT NOT NULL DEFAULT '',
  status INTEGER NOT NULL DEFAULT 0, result TEXT, times INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL,
  updated INTEGER NOT NULL);
CREATE INDEX command_app ON command (app_id, status);
CREATE TABLE service (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
CREATE TABLE provider (
  service_id INTEGER NOT NULL REFERENCES service(id) ON DELETE CASCADE, app_id INTEGER NOT NULL,
  client_id TEXT NOT NULL, version TEXT NOT NULL, address TEXT NOT NULL, tag TEXT NOT NULL, scope TEXT,
  weight INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  PRIMARY KEY (service_id, app_id, client_id)) WITHOUT ROWID;
CREATE TABLE consumer (
  service_id INTEGER NOT NULL REFERENCES service(id) ON DELETE CASCADE, app_id INTEGER NOT NULL,
  client_id TEXT NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (service_id, app_id, client_id)) WITHOUT ROWID;
CREATE TABLE config_app (
  app_id INTEGER PRIMARY KEY REFERENCES app(id) ON DELETE CASCADE, enabled INTEGER NOT NULL DEFAULT 1,
  version INTEGER NOT NULL DEFAULT 1, next_version INTEGER NOT NULL DEFAULT 0, next_publish INTEGER NOT NULL DEFAULT 0,
  is_global INTEGER NOT NULL DEFAULT 0, quotable INTEGER NOT NULL DEFAULT 0, quotes TEXT NOT NULL DEFAULT '',
  readonly INTEGER NOT NULL DEFAULT 0, enable_worker_id INTEGER NOT NULL DEFAULT 0, updated INTEGER NOT NULL);
CREATE TABLE config_item (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE,
  key TEXT NOT NULL COLLATE NOCASE, scope TEXT NOT NULL DEFAULT '' COLLATE NOCASE, value TEXT,
  version INTEGER NOT NULL DEFAULT 0, staged INTEGER NOT NULL DEFAULT 0, new_value TEXT,
  comment TEXT NOT NULL DEFAULT '', updated INTEGER NOT NULL, UNIQUE (app_id, key, scope));
CREATE TABLE config_release (
  app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE, version INTEGER NOT NULL,
  published_at INTEGER NOT NULL, kind TEXT NOT NULL, changes TEXT NOT NULL, snapshot TEXT NOT NULL,
  PRIMARY KEY (app_id, version)) WITHOUT ROWID;
CREATE TABLE operation (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL, name TEXT NOT NULL COLLATE NOCASE, kind TEXT NOT NULL,
  last_seen INTEGER NOT NULL, UNIQUE (app_id, name));
CREATE TABLE builder (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL, operation_id INTEGER NOT NULL, client_id TEXT NOT NULL,
  start_time INTEGER NOT NULL, end_time INTEGER NOT NULL, total INTEGER NOT NULL, errors INTEGER NOT NULL,
  cost INTEGER NOT NULL, max_cost INTEGER NOT NULL, min_cost INTEGER NOT NULL, value INTEGER NOT NULL);
CREATE INDEX builder_app ON builder (app_id, start_time);
CREATE INDEX builder_time ON builder (start_time);
CREATE TABLE sample (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL, operation_id INTEGER NOT NULL, client_id TEXT NOT NULL,
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL, start_time INTEGER NOT NULL,
  end_time INTEGER NOT NULL, value INTEGER NOT NULL, tag TEXT NOT NULL, error TEXT NOT NULL, failed INTEGER NOT NULL);
CREATE INDEX sample_trace ON sample (trace_id);
CREATE INDEX sample_time ON sample (start_time);
CREATE INDEX sample_app ON sample (app_id, start_time);
CREATE TABLE batch (
  app_id INTEGER NOT NULL, batch_id TEXT NOT NULL, received INTEGER NOT NULL,
  PRIMARY KEY (app_id, batch_id)) WITHOUT ROWID;
"""

# The list of traces is read from the indexes alone.
_COVERING = """
DROP INDEX sample_trace;
DROP INDEX sample_app;
CREATE INDEX sample_trace ON sample (trace_id, span_id, start_time, end_time, failed);
CREATE INDEX sample_app ON sample (app_id, start_time, trace_id);
DROP INDEX sample_time;
CREATE INDEX sample_time ON sample (start_time, trace_id);
"""

# Published sets and drafts are two tables; counts are summed by minute, hour and day; what an instance was served and what it uses
# are two columns. Old snapshots stay readable: they are text, new ones are compressed.
_RELEASES = """
CREATE TABLE release_set (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE, version INTEGER NOT NULL,
  published_at INTEGER NOT NULL, kind TEXT NOT NULL, changes TEXT NOT NULL, entries BLOB, UNIQUE (app_id, version));
INSERT INTO release_set (app_id, version, published_at, kind, changes, entries)
  SELECT app_id, version, published_at, kind, changes, snapshot FROM config_release ORDER BY app_id, version;
CREATE TABLE draft (
  id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE,
  key TEXT NOT NULL COLLATE NOCASE, scope TEXT NOT NULL DEFAULT '' COLLATE NOCASE, value TEXT,
  updated INTEGER NOT NULL, UNIQUE (app_id, key, scope));
INSERT INTO draft (app_id, key, scope, value, updated)
  SELECT app_id, key, scope, CASE staged WHEN 1 THEN new_value END, updated FROM config_item WHERE staged <> 0 ORDER BY id;
CREATE TABLE key_note (
  app_id INTEGER NOT NULL REFERENCES app(id) ON DELETE CASCADE, key TEXT NOT NULL COLLATE NOCASE,
  scope TEXT NOT NULL DEFAULT '' COLLATE NOCASE, comment TEXT NOT NULL, PRIMARY KEY (app_id, key, scope)) WITHOUT ROWID;
INSERT INTO key_note SELECT app_id, key, scope, comment FROM config_item WHERE comment <> '';
CREATE TABLE planned (
  app_id INTEGER PRIMARY KEY REFERENCES app(id) ON DELETE CASCADE, at INTEGER NOT NULL, entries BLOB NOT NULL);
DROP TABLE config_item;
DROP TABLE config_release;
DROP TABLE meter;
ALTER TABLE instance RENAME COLUMN config_version TO served_version;
ALTER TABLE instance ADD COLUMN used_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN refused_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN refused_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN restart_keys TEXT NOT NULL DEFAULT '';
CREATE TABLE stat (
  app_id INTEGER NOT NULL, grain INTEGER NOT NULL, start INTEGER NOT NULL, operation_id INTEGER NOT NULL,
  total INTEGER NOT NULL, errors INTEGER NOT NULL, cost INTEGER NOT NULL, max_cost INTEGER NOT NULL,
  min_cost INTEGER, value INTEGER NOT NULL, PRIMARY KEY (app_id, grain, start, operation_id)) WITHOUT ROWID;
INSERT INTO stat SELECT app_id, 60000, start_time / 60000 * 60000, operation_id, SUM(total), SUM(errors), CAST(TOTAL(cost) AS INTEGER),
  MAX(max_cost), MIN(CASE WHEN min_cost >= 0 AND total > 0 THEN min_cost END), CAST(TOTAL(value) AS INTEGER) FROM builder GROUP BY 1, 3, 4;
CREATE TABLE app_stat (
  app_id INTEGER NOT NULL, grain INTEGER NOT NULL, start INTEGER NOT NULL, total INTEGER NOT NULL, errors INTEGER NOT NULL,
  cost INTEGER NOT NULL, PRIMARY KEY (app_id, grain, start)) WITHOUT ROWID;
INSERT INTO app_stat SELECT app_id, grain, start, SUM(total), SUM(errors), CAST(TOTAL(cost) AS INTEGER) FROM stat GROUP BY 1, 2, 3;
DROP TABLE builder;
DROP INDEX sample_app;
CREATE INDEX sample_app ON sample (app_id, id, trace_id);
ALTER TABLE sample ADD COLUMN start_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sample ADD COLUMN end_us INTEGER NOT NULL DEFAULT 0;
CREATE TABLE signed_out (session TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _COVERING, _RELEASES)
