# Copyright (c) 2026, the iterable_sync developers

# The worker and DROP EXTENSION never meet halfway through the extension's
# tables, where each would wait for the other: the worker waits before it has
# locked any, and goes on if the extension stays.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster('drop', conf => "iterable_sync.rescan_interval = 1s\n");

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

$node->safe_psql('postgres', 'DROP EXTENSION iterable_sync CASCADE');
wait_until(sub {
		$node->safe_psql('postgres',
			q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker'}) eq '0';
	},
	'it leaves when the extension is gone');
unlike(log_of($node), qr/deadlock/, 'there was no deadlock');

done_testing();
