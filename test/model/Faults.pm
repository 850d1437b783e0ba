# Copyright (c) 2026, the iterable_sync developers

# What Iterable does to requests, and what happens to the server.

package Faults;

use strict;
use warnings;

use Time::HiRes qw(time usleep);

use PostgreSQL::Test::Utils ();

# ----------------------------------------------------------------
# Iterable
# ----------------------------------------------------------------

my %now = (headers => { 'Retry-After' => '0' });

my %kinds = (
	plain => [ 50, sub { return (action => 'apply') } ],
	late => [ 18, sub { return (action => 'apply', delayMs => $_[0]->between(5, 150)) } ],
	limited => [ 3, sub { return (status => 429, %now, body => { code => 'RateLimitExceeded' }) } ],
	refused => [ 4, sub { return (status => $_[0]->one_of(500, 502, 503), %now) } ],
	slack => [ 1, sub { return (status => 503) } ],
	lost => [ 6, sub { return (action => 'apply_then_answer', status => $_[0]->one_of(408, 500, 502, 504),
		%now, delayMs => $_[0]->between(0, 100)) } ],
	reset => [ 2, sub { return (action => 'drop') } ],
	lost_reset => [ 3, sub { return (action => 'apply_then_drop', delayMs => $_[0]->between(0, 100)) } ],
	silent => [ 2, sub { return (action => $_[0]->one_of(qw(hang apply_then_hang))) } ],
	odd => [ 4, sub { return (action => $_[0]->one_of(qw(truncate garbage))) } ],
	slow => [ 2, sub { return (action => 'slow', delayMs => 1) } ],
	close => [ 2, sub { return (action => 'close') } ],
	bad => [ 1, sub { return (status => 400, body => { code => 'BadParams', msg => 'as ordered' }) } ],
	large => [ 1, sub { return (status => 413, body => { code => 'BatchTooLarge', msg => 'as ordered' }) } ],
	partly => [ 6, sub {
		my ($dice) = @_;
		my $source = $dice->one_of(qw(person toggle visit account entry step phase));

		return (failRows => {
			emails => [ map { $source . $dice->between(1, 40) . '@example.com' } 1 .. 8 ],
			list => $dice->one_of(qw(invalidDataEmails notFoundEmails forgottenEmails conflictEmails none)) });
	} ]);

# So many answers, one for each request that comes.
sub script
{
	my ($dice, $n) = @_;
	my %weight = map { $_ => $kinds{$_}[0] } keys %kinds;

	return map { { $kinds{ $dice->weighted(%weight) }[1]->($dice) } } 1 .. $n;
}

# ----------------------------------------------------------------
# The server
# ----------------------------------------------------------------

my %deaths = (
	worker => 4,		# kill -9 of the worker, which takes the server down
	verdict => 6,		# the same when a verdict is about to be recorded
	writer => 2,		# kill -9 of a session
	terminate => 2,		# the worker is told to go
	immediate => 3,
	fast => 1,
	postmaster => 1,	# kill -9
	in_place => 1,		# kill -9 of a session, after which the server restarts by itself
	silence => 4);		# nobody answers, nobody writes WAL, then immediate

sub new
{
	my ($class, $node, $emulator) = @_;

	return bless { node => $node, emulator => $emulator, interruptions => [] }, $class;
}

# What is to happen in a round: [ ms to wait, what ], …
sub plan
{
	my ($dice, $durable) = @_;

	# what was not written is lost only if little else is
	my %weight = (%deaths, $durable eq 'off' ? (silence => 12) : ());

	return map { [ $dice->between(200, 1300), $dice->weighted(%weight) ] } 1 .. $dice->between(1, 3);
}

# A number or text of the catalogs, '' while the server is not there.
sub ask
{
	my ($self, $sql) = @_;
	my ($rc, $answer) = $self->{node}->psql('postgres', $sql);

	return $rc == 0 ? $answer : '';
}

sub pid_of
{
	my ($self, $condition) = @_;

	return $self->ask("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY pid LIMIT 1");
}

sub pid_of_worker
{
	return $_[0]->pid_of(q{backend_type = 'iterable_sync worker' AND datname = 'postgres'});
}

sub await_end
{
	my ($self, $pid) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (kill(0, $pid))
	{
		die 'the server does not end' if time() > $end;
		usleep(10_000);
	}
	return;
}

# restart_after_crash is off (but for restart_in_place): with it workers pause,
# longer each time, lest they take the server down again and again.
sub kill_process
{
	my ($self, $pid) = @_;

	$self->{since} = time();
	return if $pid eq '' || kill('KILL', $pid) == 0;
	$self->await_end($self->{node}{_pid});
	$self->stop_server('immediate');
	return;
}

# A request is under way whose answer comes after so many ms: die about when
# its verdict is recorded.
sub kill_at_verdict
{
	my ($self, $dice) = @_;
	my $emulator = $self->{emulator};
	my $delay = $dice->between(40, 120) / 1000;
	my $moment = $dice->between(0, 6000) / 1_000_000;
	my $pid = $self->pid_of_worker;
	my $end = time() + 2;
	my ($last) = reverse $emulator->requests($self->{seen} // 0);
	my $request;

	$self->{seen} = $last->{n} if defined $last;
	$emulator->end_script;
	$emulator->script({ action => 'apply', delayMs => $delay * 1000, times => 0 });
	do
	{
		usleep(2_000);
		($request) = grep { !$_->{done} } $emulator->requests($self->{seen} // 0);
	} while (!defined $request && time() < $end);
	if (defined $request)
	{
		my $left = $request->{at} + $delay + $moment - time();

		usleep($left * 1_000_000) if $left > 0;
	}
	$self->kill_process($pid);
	return;
}

sub stop_server
{
	my ($self, $mode) = @_;

	$self->{node}->stop($mode, fail_ok => 1);
	$self->{node}->start;
	return;
}

sub kill_postmaster
{
	my ($self) = @_;
	my $node = $self->{node};
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	$node->kill9;

	# not before the last of its children has gone
	my %env = $node->_get_env;
	local @ENV{ keys %env } = values %env;
	while (PostgreSQL::Test::Utils::system_log('pg_ctl', '-w', '-D', $node->data_dir,
			'-l', $node->logfile, 'start') != 0)
	{
		die 'the server does not start' if time() > $end;
		usleep(100_000);
	}
	$node->_update_pid(1);
	return;
}

sub await
{
	my ($self, $sql, $condition) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	until ($condition->($self->ask($sql)))
	{
		die "in vain: $sql" if time() > $end;
		usleep(20_000);
	}
	return;
}

# A session dies, and the postmaster goes on with new shared memory.
sub restart_in_place
{
	my ($self) = @_;
	my $checkpointer = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
	my $before = $self->ask($checkpointer);
	my $pid;

	$self->ask('ALTER SYSTEM SET restart_after_crash = on');
	$self->ask('SELECT pg_reload_conf()');
	$self->await('SHOW restart_after_crash', sub { $_[0] eq 'on' });
	$pid = $self->pid_of(q{application_name = 'model'});
	$self->{since} = time();
	$self->await($checkpointer, sub { $_[0] ne '' && $_[0] ne $before }) if $pid ne '' && kill('KILL', $pid) == 1;
	$self->ask('ALTER SYSTEM RESET restart_after_crash');
	$self->ask('SELECT pg_reload_conf()');
	$self->await('SHOW restart_after_crash', sub { $_[0] eq 'off' });
	return;
}

# A process that gets little of the processor.
sub starve
{
	my ($self, $dice, $pid, $seconds) = @_;
	my $end = time() + $seconds;

	while (time() < $end)
	{
		kill('STOP', $pid) if $pid ne '';
		usleep(1000 * $dice->between(5, 15));
		kill('CONT', $pid) if $pid ne '';
		usleep($dice->between(100, 600));
	}
	return;
}

# One late answer for each sync, so that its next window holds many rows; then
# every request hangs, applied, and nobody brings WAL to the disk but the worker
# and who waits for it.  It is slow, so that rows change between its steps.  At
# last the server is gone, and with it whatever was not flushed.
sub silence
{
	my ($self, $dice) = @_;
	my $writer = $self->pid_of(q{backend_type = 'walwriter'});
	my $worker = $self->pid_of_worker;
	my $late = $dice->between(100, 200);

	return if $writer eq '';
	kill('STOP', $writer);
	$self->{emulator}->end_script;
	$self->{emulator}->script(
		{ action => 'apply', delayMs => $late, times => 4 },
		{ action => 'apply_then_hang', times => 0 });
	usleep(1000 * $late);
	$self->starve($dice, $worker, $dice->between(300, 700) / 1000);
	$self->{since} = time();
	kill('QUIT', $self->{node}{_pid});
	usleep(100_000);
	kill('CONT', $writer);
	$self->stop_server('immediate');
	return;
}

sub happen
{
	my ($self, $what, $dice) = @_;
	my %how = (
		worker => sub { $self->kill_process($self->pid_of_worker) },
		verdict => sub { $self->kill_at_verdict($dice) },
		writer => sub { $self->kill_process($self->pid_of(q{application_name = 'model'})) },
		terminate => sub { $self->ask(q{SELECT pg_terminate_backend(} . ($self->pid_of_worker || 0) . q{, 5000)}) },
		immediate => sub { $self->stop_server('immediate') },
		fast => sub { $self->stop_server('fast') },
		postmaster => sub { $self->kill_postmaster },
		in_place => sub { $self->restart_in_place },
		silence => sub { $self->silence($dice) });

	$self->{since} = time();
	$how{$what}->();

	# of the outcome of what was under way nobody is witness
	push @{ $self->{interruptions} }, [ $self->{since}, time() ];
	return;
}

1;
