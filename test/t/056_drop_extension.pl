# Copyright (c) 2026, the iterable_sync developers

# The worker and DROP EXTENSION never meet halfway through the extension's
# tables, where each would wait for the other: the worker waits before it has
# locked any, and goes on if the extension stays.

use strict;
use warnings;

use File::Copy;
use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster('drop', conf => "iterable_sync.rescan_interval = 1s\ndeadlock_timeout = 500ms\n");

create_connection($node, 'prod', $emulator, users_rate => 1000);
$node->safe_psql('postgres', q{
	CREATE TABLE people (id int PRIMARY KEY, email text);
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_enable_sync('people', 'updates_only');
	INSERT INTO people VALUES (1, 'one@example.com');
});
synced($node, 'people', 'the worker is there');

# Something to do for the worker, while the extension is as good as dropped.
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SET client_min_messages = warning');
$session->query_safe('BEGIN');
$session->query_safe('DROP EXTENSION iterable_sync CASCADE');
my $waits = q{SELECT l.locktype || ' ' || l.classid::regclass FROM pg_locks l
	JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'iterable_sync worker' AND NOT l.granted};
my $holds = q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'iterable_sync worker' AND l.locktype = 'relation' AND l.granted
		AND l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'iterable'::regnamespace)};
my ($seen, $held) = ('', 0);
wait_until(sub {
		my $now = $node->safe_psql('postgres', $waits);
		$seen = $now if $now ne '';
		$held += $node->safe_psql('postgres', $holds);
		return $seen ne '';
	},
	'the worker has to wait');
is($seen, 'object pg_extension', 'it waits for the extension');
is($held, 0, 'and holds no table of it meanwhile');

$session->query_safe('ROLLBACK');
$session->quit;
$node->safe_psql('postgres', q{INSERT INTO people VALUES (2, 'two@example.com')});
wait_until(sub { $emulator->stats->{users} == 2 }, 'the worker goes on when the extension has stayed');

# Sessions that are in a transaction: one that has captured and one whose
# snapshot is older than all that follows.  The drop waits for the first, which
# needs the change log once more before it can end.
my ($writer, $reader, $idle) = map { $node->background_psql('postgres', on_error_stop => 1) } 1 .. 3;
$idle->query_safe(q{UPDATE people SET email = 'idle@example.com' WHERE id = 2});
$writer->query_safe(q{BEGIN; SAVEPOINT a; UPDATE people SET email = 'three@example.com' WHERE id = 1});
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SET client_min_messages = warning');
$session->query_until(qr/drops/, qq{\\echo drops\nDROP EXTENSION iterable_sync CASCADE;\n});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE query ~ '^DROP EXTENSION' AND wait_event_type = 'Lock'});
usleep(800_000);			   # it has looked for a deadlock, and will not again
is($writer->query('RELEASE a; COMMIT; SELECT email FROM people WHERE id = 1'), 'three@example.com',
	'a transaction that has captured commits while the extension is being dropped');
$session->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'iterable_sync'}), '0',
	'which goes on then');
$_->query_safe('UPDATE people SET email = email') foreach $writer, $idle;
wait_until(sub {
		$node->safe_psql('postgres',
			q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker'}) eq '0';
	},
	'it leaves when the extension is gone');

# Created again, it is another one to sessions that knew the former.
$node->safe_psql('postgres', 'CREATE EXTENSION iterable_sync');
create_connection($node, 'prod', $emulator, users_rate => 1000);
$node->safe_psql('postgres', q{
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_enable_sync('people', 'updates_only')});
$idle->query_safe(q{UPDATE people SET email = 'four@example.com' WHERE id = 1});
$writer->query_safe(q{BEGIN; INSERT INTO people VALUES (5, 'five@example.com'); SAVEPOINT a; INSERT INTO people VALUES (6, 'six@example.com'); COMMIT});
$reader->query_safe(q{INSERT INTO people VALUES (7, 'seven@example.com'); COMMIT});
synced($node, 'people', 'sessions that knew the former extension are captured');
is(join(' ', grep { /^(four|five|six|seven)@/ } sort map { $_->{email} } $emulator->users),
	'five@example.com four@example.com seven@example.com six@example.com', 'whatever their snapshots are');

# A table that came with a dump of it alone: its trigger names a source that is
# not known here.
$node->safe_psql('postgres', q{
	CREATE TABLE restored (id int PRIMARY KEY, v text);
	CREATE TRIGGER iterable_capture_4711 AFTER INSERT OR UPDATE OR DELETE ON restored
		FOR EACH ROW EXECUTE FUNCTION iterable_capture('4711', '{id}', '{v}');
	CREATE TRIGGER iterable_truncate_4711 AFTER TRUNCATE ON restored EXECUTE FUNCTION iterable_capture('4711', '{id}', '{}');
	INSERT INTO restored SELECT i FROM generate_series(1, 10000) i;
	UPDATE restored SET v = 'x';
	TRUNCATE restored});
isnt($node->safe_psql('postgres', 'SELECT count(*) FROM iterable.change WHERE source_id = 4711'), '0',
	'changes of an unknown source are captured');
wait_until(sub {
		$node->safe_psql('postgres', 'SELECT iterable.rotate_change_log()');
		$node->safe_psql('postgres', 'SELECT count(*) FROM iterable.change WHERE source_id = 4711') eq '0';
	},
	'and forgotten');

### Another library

# Sessions keep the library that they have loaded; others load the one that
# was installed since.
my $plain = start_cluster('plain', preload => 0);
my $library = $plain->config_data('--pkglibdir') . '/iterable_sync.so';
$plain->safe_psql('postgres', q{
	CREATE TABLE people (id int PRIMARY KEY, email text);
	SELECT iterable_create_connection('nowhere', 'us', 'email', api_key => 'canary', base_url => 'http://127.0.0.1:1');
	SELECT iterable_create_sync('people', 'nowhere', 'people', 'user', 'id', 'email');
	SELECT iterable_enable_sync('people', 'updates_only')});
my $old = $plain->background_psql('postgres', on_error_stop => 1);
$old->query_safe(q{BEGIN; INSERT INTO people VALUES (1, 'one@example.com')});
copy($library, "$library.new") or die "copy: $!";
chmod(0755, "$library.new");
rename("$library.new", $library) or die "rename: $!";
my $new = $plain->background_psql('postgres', on_error_stop => 1);
$new->query_safe(q{INSERT INTO people VALUES (2, 'two@example.com')});
sub library_of
{
	my ($psql) = @_;
	my $maps = slurp_file('/proc/' . $psql->query('SELECT pg_backend_pid()') . '/maps');

	return $maps =~ /iterable_sync\.so \(deleted\)/ ? 'old' : $maps =~ /iterable_sync\.so/ ? 'new' : 'none';
}
SKIP:
{
	skip 'no /proc', 1 if !-d '/proc/self';
	is(library_of($old) . ' ' . library_of($new), 'old new', 'two libraries are in use');
}
$old->query_safe(q{UPDATE people SET email = 'x@example.com' WHERE id = 1; COMMIT});
$_->query_safe(q{UPDATE people SET email = 'y' || email}) foreach $old, $new;
my $captured = q{SELECT string_agg(k, ' ' ORDER BY k) FROM iterable.change c, unnest(c.keys) k};
is($plain->safe_psql('postgres', $captured), '1 1 1 1 2 2 2', 'both write to one log');

# A newer version may have another column in the log, and a further argument.
$plain->safe_psql('postgres', q{
	ALTER TABLE iterable.change ADD added text;
	DELETE FROM iterable.change});
$_->query_safe(q{UPDATE people SET email = 'z' || email WHERE id = 1}) foreach $old, $new;
is($plain->safe_psql('postgres', $captured), '1 1', 'a log with a column that is not known');
$plain->safe_psql('postgres', q{
	DELETE FROM iterable.change;
	CREATE OR REPLACE TRIGGER iterable_capture_1 AFTER INSERT OR UPDATE OR DELETE ON people
		FOR EACH ROW EXECUTE FUNCTION iterable_capture('1', '{id}', '{email}', '*', '', 'new')});
$_->query_safe(q{INSERT INTO people SELECT max(id) + 1 FROM people}) foreach $old, $new;
is($plain->safe_psql('postgres', q{SELECT string_agg(ops || n, ' ') FROM iterable.change}), 'L0 L0',
	'what a trigger asks for that is not known: then all rows have to be looked at');

unlike(log_of($_), qr/deadlock|terminated by signal|PANIC/, 'nothing odd in the log of ' . $_->name) foreach $node, $plain;

done_testing();
