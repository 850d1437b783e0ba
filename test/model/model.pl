# Copyright (c) 2026, the iterable_sync developers

# Sessions change tables, Iterable answers as it likes, processes die; then all
# is let through, and nothing may be lost, doubled, invented or out of order.
#
# ITERABLE_SYNC_MODEL_SEED and ITERABLE_SYNC_MODEL_TIME (in seconds) say what
# and how long.  See test/README.md.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/../t";
use IterableSync::Test;
use Time::HiRes qw(time usleep);

use Dice;
use Faults;
use Oracle;
use Workload;

my $seed = $ENV{ITERABLE_SYNC_MODEL_SEED} // int(time());
my $seconds = $ENV{ITERABLE_SYNC_MODEL_TIME} // 30;
my @sources = Workload::syncs();

note("seed $seed, $seconds s");
my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('model', conf => q{
log_statement = none
log_timezone = 'UTC'
wal_writer_delay = 10s
max_prepared_transactions = 50
autovacuum_naptime = 5s
iterable_sync.rescan_interval = 2s
});
create_connection($node, 'prod', $emulator, users_rate => 1000, events_rate => 1000, request_timeout => '1s');
$emulator->seed(map { { email => $_ } } Workload::users());

my $workload = Workload->new($node, $seed);
my $faults = Faults->new($node, $emulator);
my $oracle = Oracle->new($node, $emulator);

$workload->set_up($FindBin::Bin);
$oracle->set_up($FindBin::Bin);

# Everything that was committed is dealt with.
sub drain
{
	my ($what) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	foreach my $source (@sources)
	{
		my $done;

		$node->safe_psql('postgres', "SELECT iterable_run('$source')");
		do
		{
			$done = $node->safe_psql('postgres', "SELECT done, reason FROM iterable_wait('$source', '10 s')");
		} while ($done !~ /^t/ && time() < $end);
		return 0 if !ok($done =~ /^t/, "$what: $source") && diag($done);
	}
	return 1;
}

# Faults end, what failed is tried again.
sub settle
{
	my ($round, $dice) = @_;

	$emulator->end_script;
	$emulator->release;
	$workload->finish_prepared($dice);
	drain("$round: what was committed is dealt with") or return 0;
	$node->safe_psql('postgres', "SELECT iterable_retry_failures('$_')") foreach @sources;
	drain("$round: what had failed is tried again") or return 0;
	return 1;
}

my $began = time();
my $round = 0;
my %deaths;

while ($round < 2 || time() - $began < $seconds)
{
	my $dice = Dice->new($seed, 'round', ++$round);
	my $durable = $dice->one_of(qw(on off off mixed));
	my @plan = Faults::plan($dice, $durable);

	note(sprintf('round %d at %.1f s: synchronous_commit %s, %s', $round, time() - $began, $durable,
		join(', ', map { "$_->[1] after $_->[0] ms" } @plan)));
	$emulator->script(Faults::script($dice, 300));
	$workload->start($round, $durable);
	foreach my $death (@plan)
	{
		usleep(1000 * $death->[0]);
		$faults->happen($death->[1], $dice);
		$deaths{ $death->[1] }++;
		$emulator->end_script;
		$emulator->script(Faults::script($dice, 300));
	}
	$workload->stop;
	last if !(settle("round $round", $dice) && $oracle->check("round $round", [ $workload->sent_rows ], @{ $faults->{interruptions} }));
}
diag("this was seed $seed") if !Test::More->builder->is_passing;

note($oracle->summary);
note("$round rounds; " . join(', ', map { "$_ $deaths{$_}" } sort keys %deaths));
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT xid) FROM model.history'), '>', 20 * $round, 'there was something to check');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT source) FROM model.version'), '3', 'and versions');

# or make check-mutants could not take the rules out
foreach my $patch (glob("$FindBin::Bin/mutants/*.patch"))
{
	is(system("patch --dry-run -s -p1 -d '$FindBin::Bin/../..' <'$patch'"), 0, "$patch applies");
}

unlike(log_of($node), qr/not written before commit|PANIC|TRAP|terminated by signal (?!9)|has been marked/, 'nothing odd in the log');

$node->stop('fast');
done_testing();
