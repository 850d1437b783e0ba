#!/bin/bash
# A small shop, synced to an emulator of Iterable.  Ends by itself.
source "$(dirname "$0")/lib.sh"

say "== Building iterable_sync from $top"
build
say "   $version"

say "== Starting a throw-away cluster and an emulator of Iterable"
as_postgres "$bin/initdb" -D "$work/data" -A trust -E UTF8 >/dev/null
cat >>"$work/data/postgresql.conf" <<E2
shared_preload_libraries = 'iterable_sync'
iterable_sync.allow_insecure_base_url = on
listen_addresses = ''
unix_socket_directories = '$work'
E2
as_postgres "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w start >/dev/null
start_emulator --api-key demo-key

# Print each statement as it is run, as in a session.
session() { as_postgres "$bin/psql" -X -h "$work" -d postgres -v ON_ERROR_STOP=1 -v emulator="$emulator" -P pager=off --echo-all --quiet; }

say
say "== A shop, a connection and two syncs"
session <<'SQL'
CREATE TABLE customers (
    id bigint PRIMARY KEY, email text, name text, city text, plan text,
    updated_at timestamptz DEFAULT now());
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text,
    total numeric(10,2), ordered_at timestamptz DEFAULT now());
INSERT INTO customers
SELECT i, 'customer' || i || '@example.com', 'Customer ' || i,
       (ARRAY['berlin', 'oslo', 'lyon'])[1 + i % 3], 'free'
FROM generate_series(1, 2000) i;

CREATE EXTENSION iterable_sync;
SELECT iterable_create_connection('shop', data_center => 'us', project_type => 'email',
    api_key => 'demo-key', base_url => :'emulator');

SELECT iterable_create_sync('customers', connection => 'shop', source => 'customers',
    object => 'user', unique_field => 'id', match_field => 'email');
SELECT iterable_add_mapping('customers', 'name', column_name => 'name');
SELECT iterable_add_mapping('customers', 'plan', column_name => 'plan');
SELECT iterable_add_mapping('customers', 'address.city', expression => 'initcap(city)');

SELECT iterable_create_sync('orders', connection => 'shop', source => 'orders',
    object => 'event', unique_field => 'id', match_field => 'email');
SELECT iterable_add_mapping('orders', 'eventName', constant => 'Order placed');
SELECT iterable_add_mapping('orders', 'createdAt', column_name => 'ordered_at');
SELECT iterable_add_mapping('orders', 'total', column_name => 'total');

-- the very JSON that would be sent
SELECT key, payload, problem FROM iterable_preview('customers', 2);

SELECT iterable_enable_sync('customers', apply => 'backfill');
SELECT iterable_enable_sync('orders', apply => 'updates_only');
SQL

say
say "== The 2000 customers arrive, and an order"
session <<'SQL'
SELECT * FROM iterable_wait('customers');
INSERT INTO orders (email, total) VALUES ('customer7@example.com', 49.90);
SELECT * FROM iterable_wait('orders');
SELECT sync, state, pending, accepted, rejected, failures FROM iterable.sync_status ORDER BY sync;
SELECT * FROM iterable_lookup_user('shop', email => 'customer7@example.com');
SELECT event_name, data -> 'dataFields' AS data_fields FROM iterable_lookup_events('shop', email => 'customer7@example.com');
SQL

say
say "== A change arrives live"
session <<'SQL'
UPDATE customers SET plan = 'pro' WHERE id = 7;
SELECT clock_timestamp() AS committed \gset
SELECT * FROM iterable_wait('customers');
SELECT key, round(extract(epoch FROM at - :'committed') * 1000) AS "accepted, ms after commit"
FROM iterable.delivery WHERE sync = 'customers' AND key = '7';
SELECT data_fields ->> 'plan' AS plan FROM iterable_lookup_user('shop', email => 'customer7@example.com');
SQL

say
say "== A row that cannot be sent, its reason, and its repair"
session <<'SQL'
INSERT INTO customers (id, email, name, city, plan) VALUES (2001, 'nobody@nowhere', 'Nobody', 'oslo', 'free');
SELECT * FROM iterable_wait('customers');
SELECT sync, key, class, message FROM iterable.failure;
UPDATE customers SET email = 'somebody@example.com' WHERE id = 2001;
SELECT * FROM iterable_wait('customers');
SELECT count(*) AS failures FROM iterable.failure;
SELECT email, data_fields ->> 'name' AS name FROM iterable_lookup_user('shop', email => 'somebody@example.com');
SQL

say
say "== That was it.  With a real account:"
cat <<'TEXT'
  1. sudo make install, put shared_preload_libraries = 'iterable_sync' into
     postgresql.conf, restart the server.
  2. In Iterable: Integrations > API Keys > New API key, type "Server-side".
     Put it into a file that only the server's user can read (chmod 600).
  3. In your database:
     CREATE EXTENSION iterable_sync;
     SELECT iterable_create_connection('prod', data_center => 'us', project_type => 'email',
         api_key_file => '/etc/iterable/prod.key');
     SELECT * FROM iterable_test_connection('prod');
     Then create syncs as above.  README.md has the rest.
TEXT
