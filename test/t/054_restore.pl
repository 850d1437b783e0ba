# Copyright (c) 2026, the iterable_sync developers

# What a dump has, and what a restored database does with it: nothing, until
# somebody says so.  And what stays when the extension goes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('source', conf => "iterable_sync.rescan_interval = 1\n");
my $other = start_cluster('other', extension => 0, conf => "iterable_sync.rescan_interval = 1\n");
my $dir = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$dir/iterable.key";

append_to_file($key_file, $emulator->key . "\n");
chmod(0600, $key_file) or die "chmod: $!";
$emulator->seed(map { { email => "person$_\@example.com" } } 1 .. 9);

sub sql
{
	my ($dbname, $sql, $where) = @_;

	return ($where // $node)->safe_psql($dbname, $sql);
}

sub n_of
{
	my ($email) = @_;
	my ($user) = grep { $_->{email} eq $email } $emulator->users;

	return $user->{dataFields}{n};
}

# Run a program of PostgreSQL; it must neither fail nor complain.
sub quietly
{
	my ($where, $what, @command) = @_;
	my ($stdout, $stderr);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$command[0] = $where->installed_command($command[0]);
	my $result = IPC::Run::run([ @command, '-h', $where->host, '-p', $where->port ],
		'<', \undef, '>', \$stdout, '2>', \$stderr);
	return is($result ? $stderr : "failed: $stderr", '', $what);
}

foreach my $where ($node, $other)
{
	sql('postgres', 'CREATE ROLE app', $where);
}
sql('postgres', 'CREATE DATABASE shop');
sql('shop', 'CREATE EXTENSION iterable_sync');
create_connection($node, 'prod', $emulator, dbname => 'shop', key_file => $key_file,
	users_rate => 1000, events_rate => 1000);
sql('shop', q{
	GRANT CREATE ON SCHEMA public TO app;
	GRANT USAGE ON FOREIGN SERVER prod TO app;
	CREATE TABLE spare (id int PRIMARY KEY, email text);
	SELECT iterable_create_sync('spare', 'prod', 'spare', 'user', 'id', 'email');
	SELECT iterable_drop_sync('spare');
	SET ROLE app;
	CREATE TABLE people (id int PRIMARY KEY, email text, n int NOT NULL DEFAULT 0);
	CREATE TABLE orders (day date, no int, email text, total numeric, PRIMARY KEY (day, no));
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_add_mapping('people', 'tags', expression => 'CASE WHEN id > 1 THEN ''late'' END', null_policy => 'clear');
	SELECT iterable_create_sync('orders', 'prod', 'orders', 'event', '{day,no}', 'email', schedule => '1 second');
	SELECT iterable_add_mapping('orders', 'eventName', constant => 'Order placed');
	SELECT iterable_add_mapping('orders', 'total', column_name => 'total');
	SELECT iterable_enable_sync('people', 'updates_only');
	SELECT iterable_enable_sync('orders', 'updates_only');
	INSERT INTO people SELECT i, 'person' || i || '@example.com' FROM generate_series(1, 5) i;
	INSERT INTO people VALUES (6, 'no address');
	INSERT INTO orders SELECT '2026-01-01', i, 'person' || i || '@example.com', i + 0.5 FROM generate_series(1, 3) i;
});
sql('shop', q{SELECT * FROM iterable_wait('people'); SELECT * FROM iterable_wait('orders')});
is($emulator->stats->{events}, 3, 'the original has sent');

# What is under way when the dump is made is not known to the copy.
$emulator->script({ action => 'hang' });
sql('shop', 'UPDATE people SET n = 1 WHERE id = 1');
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'the original has a request under way');

my $definitions = q{
	SELECT 'source', s.* FROM iterable.source s;
	SELECT 'sync', s.* FROM iterable.sync s;
	SELECT 'mapping', m.* FROM iterable.mapping m ORDER BY sync_id, destination;
	SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'iterable%' ORDER BY 1;
	SELECT 'server', srvname, srvoptions FROM pg_foreign_server};
my $defined = sql('shop', $definitions);
like($defined, qr/iterable_capture_\d+\|A\|/, 'the triggers are always enabled');

quietly($node, 'pg_dump', 'pg_dump', '-f', "$dir/dump.sql", 'shop');
quietly($node, 'pg_dump, custom format', 'pg_dump', '-Fc', '-f', "$dir/dump.custom", 'shop');
my @last = $emulator->requests;
$emulator->release;
my $dump = slurp_file("$dir/dump.sql");
my $key = $emulator->key;
unlike($dump, qr/\Q$key\E/, 'the dump has no key');
like($dump, qr/api_key_file '\Q$key_file\E'/, 'but the name of its file');
is(join(' ', sort $dump =~ /^COPY iterable\.(\w+)/mg), 'mapping source sync', 'it has the definitions, and no state');

# In another database of the same server, and in another server.
sql('postgres', 'CREATE DATABASE copy');
quietly($node, 'psql restores it', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', "$dir/restore.out",
	'-f', "$dir/dump.sql", '-d', 'copy');
sql('postgres', 'CREATE DATABASE copy', $other);
quietly($other, 'pg_restore restores it', 'pg_restore', '-j', '2', '--exit-on-error', '-d', 'copy', "$dir/dump.custom");

foreach my $where ($node, $other)
{
	my $name = $where->name;

	is(sql('copy', $definitions, $where), $defined, "$name: definitions and triggers are those of the original");
	is(sql('copy', q{SELECT (SELECT count(*) FROM iterable.sync_state) + (SELECT count(*) FROM iterable.sync_delivery)
		+ (SELECT count(*) FROM iterable.sync_failure) + (SELECT count(*) FROM iterable.sync_run)
		+ (SELECT count(*) FROM iterable.change)}, $where),
		'0', "$name: there is no state, and the restore was not captured");
	is(sql('copy', 'SELECT sync, state, reason, what_to_do FROM iterable.sync_status ORDER BY sync', $where),
		join("\n", map {
				"$_|paused|it has not been enabled in this database|"
				  . q{Call iterable_enable_sync() with apply => 'updates_only' or 'backfill' if this database shall send.}
			} 'orders', 'people'),
		"$name: the view says what it waits for");
	sql('copy', q{UPDATE people SET n = 99; INSERT INTO orders VALUES ('2026-02-01', 1, 'person9@example.com', 9)}, $where);
}
sql('shop', q{SELECT * FROM iterable_wait('people')});
usleep(2_500_000);
@last = $emulator->requests($last[-1]{n});
unlike(join('', map { $_->{body} } @last), qr/"n":99/, 'the copies send nothing');
like($last[0]{body}, qr/"n":1\b/, 'while the original goes on');

# The copy takes over.
sql('shop', q{SELECT iterable_disable_sync('people'); SELECT iterable_disable_sync('orders')});
foreach my $where ($node, $other)
{
	my $name = $where->name;
	my $n = $name eq 'source' ? 100 : 200;

	like(sql_error($where, q{SELECT iterable_enable_sync('people')}, 'copy'), qr/^22023/,
		"$name: it must be said what happens to the rows that are there");
	sql('copy', qq{
		SET ROLE app;
		SELECT iterable_enable_sync('people', 'updates_only');
		SELECT iterable_enable_sync('orders', 'backfill');
		UPDATE people SET n = $n WHERE id = 2;
	}, $where);
	is(sql('copy', q{SELECT * FROM iterable_wait('people'); SELECT * FROM iterable_wait('orders')}, $where),
		"t|0|\nt|0|", "$name: enabled, it sends");
	is(n_of('person2@example.com'), $n, "$name: what was changed since");
	is(n_of('person3@example.com'), 0, "$name: and no more of the users");
	is($emulator->stats->{events}, 4, "$name: events have the ids that they have from the original");
	sql('copy', q{
		CREATE TABLE more (id int PRIMARY KEY, email text);
		SELECT iterable_create_sync('more', 'prod', 'more', 'user', 'id', 'email');
		SELECT iterable_enable_sync('more', 'updates_only');
		INSERT INTO more VALUES (1, 'more@example.com')}, $where);
	is(sql('copy', q{SELECT * FROM iterable_wait('more')}, $where), 't|0|', "$name: a new sync gets a number of its own");
}
is(sql('copy', q{SELECT count(*) FROM iterable.sync_state WHERE identity = iterable.server_identity()}), '3',
	'they belong to this database now');

# The original does not send what the copy's sync captured, nor the reverse.
is(sql('shop', q{SELECT count(*) FROM iterable.sync_status WHERE state = 'disabled'}), '2', 'the original is as it was');

### ALTER and DROP EXTENSION

sql('shop', q{ALTER EXTENSION iterable_sync UPDATE});
sql('shop', q{SELECT iterable_enable_sync('people'); UPDATE people SET n = 7 WHERE id = 4});
is(sql('shop', q{SELECT * FROM iterable_wait('people')}), 't|1|', 'an update to the version that is there changes nothing');
like(sql_error($node, 'DROP EXTENSION iterable_sync', 'shop'), qr/^2BP01/, 'without CASCADE it does not go');
sql('shop', 'DROP EXTENSION iterable_sync CASCADE');
is(sql('shop', q{SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}), '0', 'with CASCADE it takes its triggers along');
is(sql('shop', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'iterable'}), '0', 'and its schema');
sql('shop', q{
	SET ROLE app;
	INSERT INTO people VALUES (10, 'person10@example.com');
	UPDATE people SET n = n + 1;
	DELETE FROM orders;
	TRUNCATE orders});
is(sql('shop', 'SELECT count(*) FROM people'), '7', 'the tables are written to as before');

# Captured and gone in one transaction, and with a session that has captured.
my $session = $node->background_psql('copy');
$session->query_safe('UPDATE people SET n = n + 1');
is(sql('copy', q{BEGIN; UPDATE people SET n = n + 1; DROP EXTENSION iterable_sync CASCADE; COMMIT; SELECT 'committed'}),
	'committed', 'it can go in a transaction that has changed a source');
$session->query_safe('UPDATE people SET n = n + 1');
$session->query_safe('CREATE EXTENSION iterable_sync');
$session->query_safe('UPDATE people SET n = n + 1');
$session->quit;
is(sql('copy', q{SELECT count(*) FROM iterable.change}), '0', 'and come again, and knows nothing of the table');

$node->stop('fast');
$other->stop('fast');
done_testing();
