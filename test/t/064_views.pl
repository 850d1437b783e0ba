# Copyright (c) 2026, the iterable_sync developers

# Views, materialized views and foreign tables as sources: each run compares
# their rows with what was sent.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time sleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('views',
	conf => "iterable_sync.rescan_interval = 1\nautovacuum = off\n");

create_connection($node, 'prod', $emulator, users_rate => 200, events_rate => 200);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Ask for a run and let it end; returns what it did.
sub run_sync
{
	my ($sync, $failures) = @_;
	my $before = sql("SELECT coalesce(max(run_id), 0) FROM iterable.run WHERE sync = '$sync'");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql("SELECT iterable_run('$sync')");
	synced($node, $sync, "$sync has run", $failures);
	wait_until(
		sub { sql("SELECT count(*) FROM iterable.run WHERE sync = '$sync' AND run_id > $before AND finished_at IS NOT NULL") },
		'to its end');
	return sql("SELECT coalesce(sum(accepted), 0) || ' accepted, ' || coalesce(sum(vanished), 0) || ' vanished, ' "
		  . "|| coalesce(sum(rejected), 0) || ' rejected' FROM iterable.run WHERE sync = '$sync' AND run_id > $before");
}

sub call_sync
{
	my ($sync) = @_;

	sql("CALL iterable_run_now('$sync')");
	return;
}

sub failures
{
	my ($sync) = @_;

	return sql("SELECT coalesce(string_agg(concat_ws(' ', key, class, message), '; ' ORDER BY key), '') FROM iterable.failure WHERE sync = '$sync'");
}

sub states
{
	my ($sync) = @_;

	return sql("SELECT coalesce(string_agg(n || ' ' || state, ', ' ORDER BY state), '') "
		  . "FROM (SELECT state, count(*) AS n FROM iterable.delivery WHERE sync = '$sync' GROUP BY state) x");
}

# What the emulator knows of a user's field.
sub field
{
	my ($email, $name) = @_;
	my ($user) = grep { lc($_->{email} // '') eq lc($email) } $emulator->users;

	return defined $user ? $user->{dataFields}{$name} : undef;
}

sub staged
{
	return sql('SELECT (SELECT count(*) FROM iterable.sync_staged) + (SELECT count(*) FROM iterable.sync_staging)');
}

#
# A view with a join and an aggregate
#
sql(q{
	CREATE TABLE person (id int PRIMARY KEY, email text, name text);
	CREATE TABLE purchase (id int PRIMARY KEY, person_id int, amount numeric);
	INSERT INTO person SELECT i, 'user' || i || '@example.com', 'User ' || i FROM generate_series(1, 2500) i;
	INSERT INTO purchase SELECT i, i % 2500 + 1, i FROM generate_series(1, 10000) i;
	CREATE VIEW spending AS
		SELECT p.id, p.email, p.name, count(o.id) AS purchases, coalesce(sum(o.amount), 0) AS spent
		FROM person p LEFT JOIN purchase o ON o.person_id = p.id
		GROUP BY p.id, p.email, p.name;
	SELECT iterable_create_sync('spending', 'prod', 'spending', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('spending', 'name', column_name => 'name');
	SELECT iterable_add_mapping('spending', 'purchases', column_name => 'purchases');
	SELECT iterable_add_mapping('spending', 'spent', column_name => 'spent');
});
is( sql(q{SELECT key, payload, problem FROM iterable_preview('spending', 1)}),
	'1|{"email":"user1@example.com","dataFields":{"name":"User 1","purchases":4,"spent":25000}}|',
	'the preview shows rows of a view');
is( sql(q{SELECT key, problem FROM iterable_preview('spending', keys => '{7,9999}')}),
	"7|\n9999|vanished: no row has this key", 'and those of some keys');
is( sql(q{SELECT outcome, rows FROM iterable_explain('spending')}),
	'send|2500', 'explaining looks at all rows');

sql(q{SELECT iterable_enable_sync('spending', apply => 'backfill')});
is(run_sync('spending'), '2500 accepted, 0 vanished, 0 rejected', 'a backfill sends all rows');
is($emulator->stats->{users}, 2500, 'all users are there');
is(field('user1@example.com', 'spent'), 25000, 'with what the view says');
is(states('spending'), '2500 accepted', 'and are remembered');
is(staged(), '0', 'nothing remains staged');
is(sql(q{SELECT outcome, rows FROM iterable_explain('spending')}), 'unchanged|2500', 'then nothing is to be sent');
is(run_sync('spending'), '0 accepted, 0 vanished, 0 rejected', 'nor is it');

sql(q{
	INSERT INTO purchase VALUES (10001, 1, 100), (10002, 2, 100);
	UPDATE person SET name = 'Third' WHERE id = 3;
	DELETE FROM person WHERE id = 4;
	INSERT INTO person VALUES (2501, 'new@example.com', 'New');
});
my $requests = () = $emulator->requests;
is(run_sync('spending'), '4 accepted, 1 vanished, 0 rejected', 'a run sends what has changed, and only that');
is((() = $emulator->requests) - $requests, 1, 'in one request');
is(field('user1@example.com', 'spent'), 25100, 'the new sum has arrived');
is(field('new@example.com', 'name'), 'New', 'and the new user');
is(states('spending'), '2500 accepted, 1 vanished', 'who is gone has vanished');
sql(q{INSERT INTO person VALUES (4, 'user4@example.com', 'User 4')});
is(run_sync('spending'), '0 accepted, 0 vanished, 0 rejected', 'a row that comes back as it was is not sent');
is(states('spending'), '2501 accepted', 'but known again');

# the filter
sql(q{
	SELECT iterable_update_sync('spending', filter => 'purchases > 4 OR id > 10', apply => 'updates_only');
});
is(run_sync('spending'), '0 accepted, 0 vanished, 0 rejected', 'a filter sends nothing');
is(states('spending'), '2493 accepted, 8 left', 'rows that it keeps out have left');
sql(q{INSERT INTO purchase VALUES (10003, 5, 100)});
is(run_sync('spending'), '1 accepted, 0 vanished, 0 rejected', 'one that begins to match is sent');
sql(q{DELETE FROM purchase WHERE id = 10003});
is(run_sync('spending'), '0 accepted, 0 vanished, 0 rejected', 'one that ceases to is not');
sql(q{SELECT iterable_update_sync('spending', filter => '', apply => 'updates_only')});
is(run_sync('spending'), '1 accepted, 0 vanished, 0 rejected', 'without the filter all rows count again');

# one row, some rows, all rows
is( sql(q{SELECT verdict FROM iterable_send_row('spending', '2')}), 'accepted', 'a row of a view can be sent by hand');
is( sql(q{SELECT verdict FROM iterable_send_row('spending', '99999')}), 'not sent: vanished', 'if it is there');
sql(q{SELECT iterable_backfill('spending', condition => 'id <= 3', force => true)});
is(run_sync('spending'), '3 accepted, 0 vanished, 0 rejected', 'a forced backfill of some rows sends them');
sql(q{UPDATE person SET name = 'Other' WHERE id IN (1, 100)});
sql(q{SELECT iterable_backfill('spending', condition => 'id <= 3')});
is(run_sync('spending'), '2 accepted, 0 vanished, 0 rejected', 'after one of some rows the run compares all');

# the definition changes
sql(q{SELECT iterable_add_mapping('spending', 'twice', expression => 'spent * 2', apply => 'backfill')});
is(run_sync('spending'), '2501 accepted, 0 vanished, 0 rejected', 'another mapping sends all rows');
sql(q{
	CREATE OR REPLACE VIEW spending AS
		SELECT p.id, p.email, upper(p.name) AS name, count(o.id) AS purchases, coalesce(sum(o.amount), 0) AS spent
		FROM person p LEFT JOIN purchase o ON o.person_id = p.id
		WHERE p.id <= 10 GROUP BY p.id, p.email, p.name;
});
is(run_sync('spending'), '10 accepted, 2491 vanished, 0 rejected', 'a replaced view is just read');
sql(q{DROP VIEW spending});
sql(q{SELECT iterable_run('spending')});
wait_until(sub { sql(q{SELECT state || ': ' || reason FROM iterable.sync_status WHERE sync = 'spending'}) =~ /^paused: source "public.spending" of sync "spending" does not exist/ },
	'a sync whose view is gone is paused');
sql(q{CREATE VIEW spending AS SELECT id, email, name, 1 AS purchases, 2 AS spent FROM person WHERE id <= 5});
wait_until(sub { states('spending') =~ /^5 accepted/ }, 'and goes on when it is there again');
synced($node, 'spending');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'spending'}), 'enabled', 'the status says so');

#
# From now on
#
$emulator->seed(map { { email => "visitor$_\@example.com" } } 1 .. 1501);
sql(q{
	CREATE TABLE visit (id int, email text, page text, amount int);
	INSERT INTO visit SELECT i, 'visitor' || i || '@example.com', 'page', 1 FROM generate_series(1, 1500) i;
	CREATE VIEW visits AS SELECT * FROM visit;
	SELECT iterable_create_sync('visits', 'prod', 'visits', 'event', 'id', 'email', schedule => '1 second');
	SELECT iterable_add_mapping('visits', 'eventName', constant => 'Visit');
	SELECT iterable_add_mapping('visits', 'page', column_name => 'page');
	SELECT iterable_enable_sync('visits', apply => 'updates_only');
});
wait_until(sub { states('visits') eq '1500 noted' }, 'rows that are there are noted');
is($emulator->stats->{events}, 0, 'and not sent');
sql(q{
	UPDATE visit SET page = 'other' WHERE id = 7;
	INSERT INTO visit VALUES (1501, 'visitor1501@example.com', 'page', 1);
	DELETE FROM visit WHERE id = 8;
});
wait_until(sub { states('visits') eq '2 accepted, 1498 noted' }, 'what changes is sent, by the schedule');
is($emulator->stats->{events}, 2, 'and nothing else');
sql(q{INSERT INTO visit VALUES (8, 'visitor8@example.com', 'page', 1)});
wait_until(sub { $emulator->stats->{events} == 3 }, 'a row that went and came back is new');
sql(q{SELECT iterable_backfill('visits')});
wait_until(sub { $emulator->stats->{events} == 1501 }, 'a backfill sends what was noted');
sql(q{SELECT iterable_update_sync('visits', schedule => 'manual')});
synced($node, 'visits');

# the other modes
sql(q{
	CREATE VIEW inserts AS SELECT id, email, page FROM visit WHERE id <= 4;
	SELECT iterable_create_sync('inserts', 'prod', 'inserts', 'user', 'id', 'email', mode => 'insert', schedule => 'manual');
	SELECT iterable_add_mapping('inserts', 'page', column_name => 'page');
	SELECT iterable_enable_sync('inserts', apply => 'updates_only');
});
wait_until(sub { states('inserts') eq '4 noted' }, 'mode insert notes what is there');
sql(q{UPDATE visit SET page = 'changed' WHERE id = 1});
sql(q{CREATE OR REPLACE VIEW inserts AS SELECT id, email, page FROM visit WHERE id <= 5});
is(run_sync('inserts'), '1 accepted, 0 vanished, 0 rejected', 'only a new row is sent');
sql(q{UPDATE visit SET page = 'changed' WHERE id = 5});
is(run_sync('inserts'), '0 accepted, 0 vanished, 0 rejected', 'and only once');

sql(q{
	CREATE VIEW updates AS SELECT id, CASE id WHEN 1 THEN email ELSE 'nobody@example.com' END AS email, page FROM visit WHERE id IN (1, 20);
	SELECT iterable_create_sync('updates', 'prod', 'updates', 'user', 'id', 'email', mode => 'update', schedule => 'manual');
	SELECT iterable_add_mapping('updates', 'page', column_name => 'page');
	SELECT iterable_enable_sync('updates', apply => 'backfill');
});
is(run_sync('updates'), '1 accepted, 0 vanished, 0 rejected', 'mode update sends whom Iterable knows');
is(states('updates'), '1 accepted, 1 seen', 'whom it does not know is noted');
$requests = () = $emulator->requests;
is(run_sync('updates'), '0 accepted, 0 vanished, 0 rejected', 'and the next run');
is(scalar(() = $emulator->requests), $requests, 'does not ask again');

#
# Keys that are none
#
sql(q{
	CREATE TABLE loose (id int, email text, n int);
	INSERT INTO loose VALUES (1, 'loose1@example.com', 1), (2, 'loose2@example.com', 2), (2, 'loose2@example.com', 3),
		(NULL, 'loose3@example.com', 4), (NULL, 'loose4@example.com', 5), (6, 'nowhere', 6);
	CREATE VIEW loosely AS SELECT * FROM loose;
	SELECT iterable_create_sync('loosely', 'prod', 'loosely', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('loosely', 'n', column_name => 'n');
	SELECT iterable_enable_sync('loosely', apply => 'backfill');
});
is(run_sync('loosely', 3), '1 accepted, 0 vanished, 2 rejected', 'repeated and missing keys do not stop the others');
is( failures('loosely'),
	'(null) null_key 2 rows have a NULL in the unique field; 2 duplicate_key 2 rows have this key; '
	  . '6 bad_email the e-mail address has no @',
	'they are failures');
is(field('loose2@example.com', 'n'), undef, 'and not sent');
is(run_sync('loosely', 3), '0 accepted, 0 vanished, 0 rejected', 'and stay so');
sql(q{
	DELETE FROM loose WHERE n = 3;
	UPDATE loose SET id = n WHERE id IS NULL;
	UPDATE loose SET email = 'loose6@example.com' WHERE n = 6;
});
is(run_sync('loosely'), '4 accepted, 0 vanished, 0 rejected', 'mended, they are sent') or diag(failures('loosely'));
is(failures('loosely'), '', 'and are no failures any more');
sql(q{INSERT INTO loose VALUES (1, 'loose1@example.com', 9)});
is(run_sync('loosely', 1), '0 accepted, 0 vanished, 1 rejected', 'a key that was accepted is repeated');
is(field('loose1@example.com', 'n'), 1, 'its row stays as it is at Iterable');
sql(q{DELETE FROM loose WHERE id = 1});
is(run_sync('loosely'), '0 accepted, 1 vanished, 0 rejected', 'both are gone');

# refused by Iterable: not at each run again
$emulator->config({ forgottenEmails => ['loose4@example.com'] });
sql(q{UPDATE loose SET n = n + 100});
run_sync('loosely', 1);
is(failures('loosely') =~ /^5 (\S+)/ ? $1 : failures('loosely'), 'forgottenEmails', 'Iterable refuses a row');
is(run_sync('loosely', 1), '0 accepted, 0 vanished, 0 rejected', 'it is not sent again as it is');
sql(q{SELECT iterable_retry_failures('loosely')});
is(run_sync('loosely', 1), '0 accepted, 0 vanished, 1 rejected', 'but when asked for');
sql(q{UPDATE loose SET n = 1 WHERE id = 5});
is(run_sync('loosely', 1), '0 accepted, 0 vanished, 1 rejected', 'or when it has changed');
$emulator->config({ forgottenEmails => [] });
sql(q{UPDATE loose SET n = 2 WHERE id = 5});
is(run_sync('loosely'), '1 accepted, 0 vanished, 0 rejected', 'and goes through');

#
# An error in any row is one of the pass
#
sql(q{
	CREATE TABLE divided (id int PRIMARY KEY, email text, n int);
	INSERT INTO divided VALUES (1, 'divided1@example.com', 1), (2, 'divided2@example.com', 0);
	CREATE VIEW division AS SELECT id, email, 10 / n AS quotient FROM divided;
	SELECT iterable_create_sync('division', 'prod', 'division', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('division', 'quotient', column_name => 'quotient');
	SELECT iterable_enable_sync('division', apply => 'backfill');
	SELECT iterable_run('division');
});
wait_until(sub { sql(q{SELECT state || ': ' || reason FROM iterable.sync_status WHERE sync = 'division'}) eq 'failing: division by zero' },
	'an error in the view is the trouble of the sync');
is(states('division'), '', 'and nothing is sent');
sql(q{UPDATE divided SET n = 5});
wait_until(sub { states('division') eq '2 accepted' }, 'it goes on by itself');
synced($node, 'division');

#
# Materialized views and foreign tables
#
sql(q{
	CREATE MATERIALIZED VIEW totals AS SELECT id % 3 AS id, 'total' || id % 3 || '@example.com' AS email, count(*) AS n FROM visit GROUP BY 1, 2;
	SELECT iterable_create_sync('totals', 'prod', 'totals', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('totals', 'n', column_name => 'n');
	SELECT iterable_enable_sync('totals', apply => 'backfill');
});
is(run_sync('totals'), '3 accepted, 0 vanished, 0 rejected', 'a materialized view is sent');
sql(q{INSERT INTO visit VALUES (3000, 'visitor3000@example.com', 'page', 1)});
is(run_sync('totals'), '0 accepted, 0 vanished, 0 rejected', 'a change of what it was made of is not seen');
sql(q{REFRESH MATERIALIZED VIEW totals});
is(run_sync('totals'), '1 accepted, 0 vanished, 0 rejected', 'but when it is refreshed');

my $port = $node->port;
my $host = $node->host;
SKIP:
{
	skip 'postgres_fdw is not installed', 4
	  if sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'}) eq '0';
	sql(qq{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
		CREATE USER MAPPING FOR CURRENT_USER SERVER loop;
		CREATE FOREIGN TABLE far (id int, email text, name text) SERVER loop OPTIONS (schema_name 'public', table_name 'person');
		SELECT iterable_create_sync('far', 'prod', 'far', 'user', 'id', 'email', schedule => 'manual', filter => 'id <= 3');
		SELECT iterable_add_mapping('far', 'far', column_name => 'name');
		SELECT iterable_enable_sync('far', apply => 'backfill');
	});
	is(run_sync('far'), '3 accepted, 0 vanished, 0 rejected', 'a foreign table is sent');
	sql(q{UPDATE person SET name = 'Far' WHERE id = 2; DELETE FROM person WHERE id = 3});
	is(run_sync('far'), '1 accepted, 1 vanished, 0 rejected', 'and its changes');
	is(field('user2@example.com', 'far'), 'Far', 'are at Iterable');
}

#
# A slow view holds nobody up, and a sync that is disabled does not go on
#
sql(q{
	CREATE TABLE quick (id int PRIMARY KEY, email text, n int);
	SELECT iterable_create_sync('quick', 'prod', 'quick', 'user', 'id', 'email');
	SELECT iterable_add_mapping('quick', 'n', column_name => 'n');
	SELECT iterable_enable_sync('quick', apply => 'updates_only');
	CREATE TABLE nap (seconds float);
	INSERT INTO nap VALUES (600);
	CREATE VIEW slow AS SELECT 1 AS id, 'slow@example.com' AS email, pg_sleep(seconds)::text AS nothing FROM nap;
	SELECT iterable_create_sync('slow', 'prod', 'slow', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('slow', 'nothing', column_name => 'nothing');
	SELECT iterable_enable_sync('slow', apply => 'backfill');
	SELECT iterable_run('slow');
});
my $napping = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan' AND wait_event = 'PgSleep'};
wait_until(sub { sql($napping) eq '1' }, 'a slow view is being read');
is(sql(q{SELECT phase FROM iterable.progress WHERE sync = 'slow'}), 'reading', 'the progress tells');
my $started = time();
sql(q{INSERT INTO quick VALUES (1, 'quick@example.com', 1)});
synced($node, 'quick', 'another sync goes on meanwhile');
cmp_ok(time() - $started, '<', 5, 'at once');
is(run_sync('totals'), '0 accepted, 0 vanished, 0 rejected', 'and so does one of another view');
sql(q{SELECT iterable_disable_sync('slow')});
wait_until(sub { sql($napping) eq '0' }, 'disabled, it is not read any more');
sql(q{UPDATE nap SET seconds = 0; SELECT iterable_enable_sync('slow')});
wait_until(sub { states('slow') eq '1 accepted' }, 'enabled, it goes on');
synced($node, 'slow');

#
# Things end in the middle
#
sql(q{
	CREATE TABLE large (id int PRIMARY KEY, email text, n int);
	INSERT INTO large SELECT i, 'large' || i || '@example.com', 1 FROM generate_series(1, 30000) i;
	CREATE VIEW largely AS SELECT * FROM large;
	SELECT iterable_create_sync('largely', 'prod', 'largely', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('largely', 'n', column_name => 'n');
});
sub large_at_iterable
{
	my ($n) = @_;

	return scalar grep { ($_->{email} // '') =~ /^large\d/ && ($_->{dataFields}{n} // '') eq $n } $emulator->users;
}
sub middle
{
	my ($n) = @_;

	return wait_until(
		sub { my $at = sql(qq{SELECT coalesce(sum(accepted), 0) FROM iterable.run WHERE sync = 'largely' AND finished_at IS NULL});
			$at > 0 && $at < 30000 },
		"in the middle of run $n");
}
sub slowly
{
	$emulator->config({ latencyMs => 100 });
	$node->safe_psql('postgres', 'ALTER SERVER prod OPTIONS (SET users_rate \'' . $_[0] . '\')');
	return;
}
slowly(10);
sql(q{SELECT iterable_enable_sync('largely', apply => 'backfill'); SELECT iterable_run('largely')});
middle(1);
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan'});
synced($node, 'largely', 'a scan worker that is ended is followed by another');
is(large_at_iterable(1), 30000, 'all is sent');
is(states('largely'), '30000 accepted', 'and known');

sql(q{UPDATE large SET n = 2; SELECT iterable_run('largely')});
middle(2);
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker'});
synced($node, 'largely', 'a worker that is ended is followed by another');
is(large_at_iterable(2), 30000, 'all is sent');

sql(q{UPDATE large SET n = 3; SELECT iterable_run('largely')});
middle(3);
$node->stop('immediate');
$node->start;
synced($node, 'largely', 'after a crash, with nothing staged any more, the run goes on');
is(large_at_iterable(3), 30000, 'all is sent');
is(staged(), '0', 'nothing remains staged');

sql(q{UPDATE large SET n = 4; SELECT iterable_run('largely')});
middle(4);
sql(q{SELECT iterable_add_mapping('largely', 'more', constant => 'x', apply => 'updates_only')});
synced($node, 'largely', 'another definition in the middle');
is(large_at_iterable(4), 30000, 'all is sent');
is(scalar(grep { ($_->{email} // '') =~ /^large\d/ && ($_->{dataFields}{more} // '') eq 'x' } $emulator->users),
	30000, 'as it is defined now');

sql(q{UPDATE large SET n = 5; SELECT iterable_run('largely')});
middle(5);
sql(q{UPDATE large SET n = 6 WHERE id > 29990});
is(sql(q{SELECT verdict FROM iterable_send_row('largely', '30000')}), 'accepted', 'a row by hand goes first');
is(field('large30000@example.com', 'n'), 6, 'as it is now');
synced($node, 'largely', 'the run goes on');
is(field('large30000@example.com', 'n'), 6, 'and brings nothing older');
is(run_sync('largely') =~ /^(\d+) accepted/ && $1 < 11, 1, 'the next run finds the others');
is(large_at_iterable(6), 10, 'all is sent');
slowly(200);

#
# A table takes the name of a view, and a view that of a table
#
sql(q{
	SELECT iterable_update_sync('quick', schedule => '1 second');
	ALTER TABLE quick RENAME TO quick_table;
	CREATE VIEW quick AS SELECT id, email, n + 1 AS n FROM quick_table;
});
wait_until(sub { (field('quick@example.com', 'n') // '') eq '2' }, 'a sync follows its source to a view');
sql(q{DROP VIEW quick; ALTER TABLE quick_table RENAME TO quick});
wait_until(sub { (field('quick@example.com', 'n') // '') eq '1' }, 'and back to a table');
sql(q{SELECT iterable_update_sync('quick', schedule => 'continuous')});
sql(q{UPDATE quick SET n = 7});
synced($node, 'quick', 'which is captured again');
is(field('quick@example.com', 'n'), 7, 'and sent');
sql(q{ALTER TABLE quick RENAME TO quick_table; CREATE VIEW quick AS SELECT * FROM quick_table});
wait_until(sub { sql(q{SELECT state || ': ' || reason FROM iterable.sync_status WHERE sync = 'quick'})
		  =~ /^paused: "public.quick" cannot be synced continuously\..* Use a schedule/ },
	'a continuous sync that finds a view is paused');
sql(q{SELECT iterable_update_sync('quick', schedule => '1 second'); UPDATE quick_table SET n = 8});
wait_until(sub { (field('quick@example.com', 'n') // '') eq '8' }, 'with a schedule it goes on');
sql(q{SELECT iterable_drop_sync('quick')});

#
# Rights
#
sql(q{
	CREATE ROLE analyst;
	CREATE ROLE reader;
	GRANT analyst TO reader;
	GRANT USAGE ON FOREIGN SERVER prod TO analyst, reader;
	CREATE TABLE secret (id int PRIMARY KEY, email text, n int);
	INSERT INTO secret VALUES (1, 'secret@example.com', 1);
	CREATE TABLE who (name text);
	GRANT INSERT ON who TO PUBLIC;
	CREATE VIEW analysis AS SELECT id, email, n, current_user::text AS reader FROM secret;
	ALTER VIEW analysis OWNER TO analyst;
	SET ROLE reader;
	SELECT iterable_create_sync('analysis', 'prod', 'analysis', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('analysis', 'n', column_name => 'n');
	SELECT iterable_add_mapping('analysis', 'reader', column_name => 'reader');
	SELECT iterable_enable_sync('analysis', apply => 'backfill');
	SELECT iterable_run('analysis');
});
wait_until(sub { sql(q{SELECT state || ': ' || reason FROM iterable.sync_status WHERE sync = 'analysis'})
		  =~ /^paused: permission denied for table secret/ },
	'a view reads what its owner may read');
sql(q{GRANT SELECT ON secret TO analyst});
wait_until(sub { states('analysis') eq '1 accepted' }, 'and only that');
is(field('secret@example.com', 'reader'), 'analyst', 'as its owner');
synced($node, 'analysis');
sql(q{
	SET ROLE analyst;
	CREATE FUNCTION pg_temp.nothing() RETURNS int LANGUAGE sql AS 'SELECT 1';
	RESET ROLE;
	CREATE FUNCTION tell() RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.who VALUES (current_user); RETURN 1; END$$;
	CREATE OR REPLACE VIEW analysis AS SELECT id, email, n + tell() AS n, current_user::text AS reader FROM secret;
	SELECT iterable_run('analysis');
});
wait_until(sub { sql(q{SELECT reason FROM iterable.sync_status WHERE sync = 'analysis'}) =~ /read-only transaction/ },
	'reading writes nothing');
is(sql('SELECT count(*) FROM who'), '0', 'indeed');
sql(q{SELECT iterable_drop_sync('analysis')});

sql(q{SELECT iterable_drop_sync(sync) FROM iterable.sync_status});
is(sql(q{SELECT count(*) FROM iterable.source}) . staged(), '00', 'dropped syncs leave nothing');
unlike(log_of($node), qr/PANIC|terminated by signal 1[01]|TRAP/, 'nothing has crashed');
$node->stop;

#
# Without the worker
#
$node = start_cluster('plain', preload => 0);
create_connection($node, 'prod', $emulator, users_rate => 200);
sql(q{
	CREATE TABLE person (id int PRIMARY KEY, email text, n int);
	INSERT INTO person SELECT i, 'plain' || i || '@example.com', i FROM generate_series(1, 1500) i;
	CREATE VIEW people AS SELECT * FROM person;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email', schedule => '15 minutes');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_enable_sync('people', apply => 'updates_only');
});
call_sync('people');
is(states('people'), '1500 noted', 'the first call notes what is there');
sql(q{UPDATE person SET n = 0 WHERE id = 1; DELETE FROM person WHERE id = 2});
call_sync('people');
is(states('people'), '1 accepted, 1498 noted', 'the next one sends what has changed');
is(field('plain1@example.com', 'n'), 0, 'to Iterable');
sql(q{SELECT iterable_enable_sync('people', apply => 'backfill')});
call_sync('people');
is(states('people'), '1499 accepted', 'a backfill sends everything');
sql(q{CREATE OR REPLACE VIEW people AS SELECT id, email, 1 / (id - 5) AS n FROM person});
like(sql_error($node, q{CALL iterable_run_now('people')}), qr/^22012: division by zero/, 'an error of the view is one of the call');
sql(q{CREATE OR REPLACE VIEW people AS SELECT * FROM person; UPDATE person SET n = 77 WHERE id = 3});
call_sync('people');
is(field('plain3@example.com', 'n'), 77, 'the next call goes on');
is(staged(), '0', 'and leaves nothing');
unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');

done_testing();
