# Copyright (c) 2026, the iterable_sync developers

# Sessions that change the tables of schema.sql.  The n-th transaction of a
# session in a round is a matter of the seed; when it runs, and whether it waits
# for a lock in vain, is not.

package Workload;

use strict;
use warnings;

use IO::Handle;
use IPC::Open2;
use POSIX ();
use Time::HiRes qw(time usleep);

use Dice;

use constant SESSIONS => 4;

# Rows that are changed all the time; beyond them a stretch changes together.
my %hot = (person => 44, toggle => 60, visit => 120, account => 20, entry => 25, step => 25, phase => 25);

# What a sync is beyond a continuous one of users that has all columns; each
# has the name of its table.
my %syncs = (
	person => {},
	toggle => { mapped => ['flip'] },
	account => { schedule => '2 seconds' },
	visit => { event => 1 },
	entry => { event => 1, options => q{, capture => 'row'} },
	step => { event => 1, options => q{, capture => 'row', versions => true} },
	phase => { event => 1, options => q{, capture => 'row', versions => true}, mapped => ['flip'] });

# Those that send rows as they are by then.
my @current = grep { !$syncs{$_}{options} } sort keys %syncs;

sub syncs
{
	return sort keys %syncs;
}

# Users that Iterable must know beforehand, since events come of them.
sub users
{
	return map { my $source = $_; map { "$source$_\@example.com" } 1 .. $hot{$source}, 1001 .. 3501 }
	  grep { $syncs{$_}{event} } sort keys %syncs;
}

sub new
{
	my ($class, $node, $seed) = @_;

	return bless { node => $node, seed => $seed, pids => [], directory => PostgreSQL::Test::Utils::tempdir() }, $class;
}

# Create the tables and the syncs that send them.
sub set_up
{
	my ($self, $directory) = @_;

	$self->{node}->safe_psql('postgres', PostgreSQL::Test::Utils::slurp_file("$directory/schema.sql"));
	foreach my $source (syncs())
	{
		my $sync = $syncs{$source};
		my $object = $sync->{event} ? 'event' : 'user';
		my $schedule = $sync->{schedule} // 'continuous';
		my $options = $sync->{options} // '';

		$self->{node}->safe_psql('postgres', join(";\n",
			"SELECT iterable_create_sync('$source', 'prod', '$source', '$object', 'id', 'email', schedule => '$schedule'$options)",
			$sync->{event} ? "SELECT iterable_add_mapping('$source', 'eventName', constant => '$source')" : (),
			"SELECT iterable_add_mapping('$source', 'row', column_name => 'id')",
			(map { "SELECT iterable_add_mapping('$source', '$_', column_name => '$_', null_policy => 'clear')" }
				@{ $sync->{mapped} // [qw(ver token flip note)] }),
			"SELECT iterable_enable_sync('$source', 'updates_only')"));
	}
	return;
}

# ----------------------------------------------------------------
# Transactions
# ----------------------------------------------------------------

sub change
{
	my ($dice, $token) = @_;
	my $source = $dice->weighted(person => 8, toggle => 6, visit => 4, account => 2, entry => 3, step => 3, phase => 2);
	my $op = $dice->weighted(update => 5, upsert => 4, merge => 1, replace => 1, delete => 1);

	return sprintf("SELECT model.change('%s', %d, '%s', '%s');",
		$source, $dice->between(1, $hot{$source}), $op, $token);
}

sub pause
{
	my ($dice, $least, $most) = @_;

	return sprintf('SELECT pg_sleep(%.3f);', $dice->between($least, $most) / 1000);
}

sub statement
{
	my ($dice, $token) = @_;
	my $kind = $dice->weighted(change => 12, range => 2, unmapped => 2,
		back => 2, same => 1, turn => 1, pause => 2);
	my $source = $dice->one_of(sort keys %hot);
	my $id = $dice->between(1, $hot{$source});

	return change($dice, $token) if $kind eq 'change';
	return "SELECT model.change('$source', i, 'upsert', '$token') FROM generate_series($id, $id + 7) i WHERE i <= $hot{$source};"
	  if $kind eq 'range';
	return "UPDATE $source SET unmapped = unmapped + 1 WHERE id = $id;" if $kind eq 'unmapped';
	return sprintf("SELECT model.turn_and_back('%s', %d);", $dice->one_of(@current), $dice->between(1, 20)) if $kind eq 'back';
	return "UPDATE $source SET flip = flip, token = token WHERE id = $id;" if $kind eq 'same';
	return 'UPDATE toggle SET flip = 1 - flip WHERE id % 3 = ' . $dice->between(0, 2) . ';' if $kind eq 'turn';
	return pause($dice, 1, 15);
}

sub statements
{
	my ($dice, $token) = @_;

	return map { statement($dice, "$token.$_") } 1 .. $dice->between(1, 5);
}

sub savepoints
{
	my ($dice, $token) = @_;
	my @sql;

	foreach my $level (1 .. $dice->between(1, 4))
	{
		push @sql, "SAVEPOINT s$level;", statements($dice, "$token.$level");
		push @sql, 'ROLLBACK TO s' . $dice->between(1, $level) . ';' if $dice->chance(40);
		push @sql, 'RELEASE s1;', 'SAVEPOINT s1;' if $level == 1 && $dice->chance(20);
	}
	return @sql;
}

# A row is sent at once, and then the transaction comes to this or that end.
sub send_row
{
	my ($dice, $token, $prepared) = @_;
	my $source = $dice->one_of(@current);
	my $id = $dice->between(1, $hot{$source});
	my $end = $dice->weighted(COMMIT => 6, ROLLBACK => 4, PREPARE => 1);
	my @more = $dice->chance(40) ? statements($dice, $token) : ();

	if ($end eq 'PREPARE')
	{
		push @$prepared, $token;
		$end = "PREPARE TRANSACTION '$token'";
	}
	return join(' ', q{BEGIN; SET LOCAL lock_timeout = '1s';},
		"SELECT verdict FROM iterable_send_row('$source', '$id');",
		@more ? (q{SET LOCAL lock_timeout = '30ms';}, @more) : (), "$end;");
}

# What a session does next; it may leave a prepared transaction in @$prepared.
sub transaction
{
	my ($dice, $token, $durable, $prepared) = @_;
	my $sync = $durable eq 'mixed' ? $dice->one_of(qw(on off)) : $durable;
	my @set = "SET synchronous_commit = $sync;";
	my $kind = $dice->weighted(single => 40, block => 20, savepoints => 14, loop => 4,
		rollback => 6, bulk => 1, lock => 1, engine => 2,
		# these wait until they are on disk, whatever synchronous_commit says
		$durable eq 'off' ? () : (prepare => 6, finish => 4, send_row => 6));

	return "@set " . statement($dice, $token) if $kind eq 'single';
	return join(' ', @set, 'BEGIN;', statements($dice, $token), 'COMMIT;') if $kind eq 'block';
	return join(' ', @set, 'BEGIN;', statements($dice, $token), 'ROLLBACK;') if $kind eq 'rollback';
	return join(' ', @set, 'BEGIN;', savepoints($dice, $token), $dice->chance(80) ? 'COMMIT;' : 'ROLLBACK;')
	  if $kind eq 'savepoints';
	return sprintf("@set SELECT model.change_or_not('person', %d, %d, '%s');", $dice->between(1, 20), $dice->between(21, 30), $token)
	  if $kind eq 'loop';
	return sprintf("@set SELECT model.change('%s', i, 'upsert', '%s') FROM generate_series(1001, %d) i;",
		$dice->one_of(qw(visit step)), $token, $dice->between(1300, 3500)) if $kind eq 'bulk';
	return join(' ', @set, 'BEGIN;', 'LOCK TABLE person, toggle;', pause($dice, 50, 300), statements($dice, $token), 'COMMIT;')
	  if $kind eq 'lock';
	return $dice->one_of('SELECT iterable.rotate_change_log();', q{CALL iterable_run_now('account');},
		q{SELECT iterable_backfill('toggle');}) if $kind eq 'engine';

	return "@set " . send_row($dice, $token, $prepared) if $kind eq 'send_row';
	if ($kind eq 'prepare')
	{
		push @$prepared, $token;
		return join(' ', 'BEGIN;', savepoints($dice, $token), "PREPARE TRANSACTION '$token';");
	}
	return statement($dice, $token) if !@$prepared;
	return ($dice->chance(70) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '" . shift(@$prepared) . "';";
}

# ----------------------------------------------------------------
# Sessions
# ----------------------------------------------------------------

sub connect_session
{
	my ($node) = @_;

	# what it says of errors (lock timeouts, lost connections) is of no interest
	my $pid = open2(my $out, my $in, 'exec psql -XAtq -v ON_ERROR_STOP=0 postgres 2>/dev/null');

	$in->autoflush(1);
	return { in => $in, out => $out, pid => $pid };
}

# What became of a row that was sent by hand outlives the server in a file:
# since, until, source, id, verdict, and whether that was surely committed.
sub note_sent_row
{
	my ($self, $session, $sql, $since, $verdict, $done) = @_;
	my ($source, $id, $committed) = $sql =~ /iterable_send_row\('(\w+)', '(\d+)'\);( COMMIT;$)?/ or return;

	PostgreSQL::Test::Utils::append_to_file("$self->{directory}/$session",
		join("\t", $since, time(), $source, $id, $verdict, $done && $committed ? 't' : 'f') . "\n");
	return;
}

# All of these.
sub sent_rows
{
	my ($self) = @_;

	return map { [ split /\t/ ] } map { split /\n/, PostgreSQL::Test::Utils::slurp_file($_) } glob("$self->{directory}/*");
}

# Until somebody ends the process, and the transaction that is under way then.
sub run_session
{
	my ($self, $round, $session, $durable) = @_;
	my $stopping = 0;
	my @prepared;
	my $psql;

	local $SIG{PIPE} = 'IGNORE';
	local $SIG{TERM} = sub { $stopping = 1 };
	for (my $n = 1; !$stopping; $n++)
	{
		my $token = "$round.$session.$n";
		my $dice = Dice->new($self->{seed}, 'session', $token);
		my $sql = transaction($dice, $token, $durable, \@prepared);
		my $since = time();
		my $verdict = '';
		my $done = 0;

		$psql //= connect_session($self->{node});
		print { $psql->{in} } "$sql\n\\echo done $token\n";
		while (my $line = readline $psql->{out})
		{
			last if $done = $line eq "done $token\n";
			$verdict = $1 if $line =~ /^(accepted|rejected|retry|unknown|skipped|not sent)/;
		}
		$self->note_sent_row($session, $sql, $since, $verdict, $done);
		usleep($dice->between(0, 5000)) if $dice->chance(20);
		next if $done;

		# the server has gone, and will be back
		close($psql->{in});
		waitpid($psql->{pid}, 0);
		$psql = undef;
		usleep(100_000);
	}
	close($psql->{in}) if $psql;
	return;
}

sub start
{
	my ($self, $round, $durable) = @_;
	my %env = $self->{node}->_get_env(
		PGHOST => $self->{node}->host, PGPORT => $self->{node}->port, PGAPPNAME => 'model',
		PGOPTIONS => '-c lock_timeout=30ms -c deadlock_timeout=20ms -c client_min_messages=error');

	foreach my $session (1 .. SESSIONS)
	{
		my $pid = fork() // die "could not fork: $!";

		if ($pid == 0)
		{
			@ENV{ keys %env } = values %env;
			eval { $self->run_session($round, $session, $durable) };
			print STDERR $@;
			POSIX::_exit(1);
		}
		push @{ $self->{pids} }, $pid;
	}
	return;
}

# Returns when what the sessions had begun has ended, one way or the other.
sub stop
{
	my ($self) = @_;

	kill('TERM', @{ $self->{pids} });
	waitpid($_, 0) foreach splice @{ $self->{pids} };
	$self->{node}->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'model'})
	  or die 'a session does not end';
	return;
}

# What was prepared and left is committed or rolled back.
sub finish_prepared
{
	my ($self, $dice) = @_;

	foreach my $gid (split /\n/, $self->{node}->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts ORDER BY gid'))
	{
		$self->{node}->safe_psql('postgres', ($dice->chance(60) ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
	return;
}

1;
