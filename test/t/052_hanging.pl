# Copyright (c) 2026, the iterable_sync developers

# Servers that hang, sources that are locked or broken, settings that are in
# the way: one sync's trouble stays its own, and nobody waits for it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IO::Socket::INET;
use IterableSync::Test;
use Time::HiRes qw(time usleep);

my $good = start_emulator(usersRate => 0, eventsRate => 0);
my $bad = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster(
	'hanging', conf => q{
log_statement = none
iterable_sync.rescan_interval = 1
});

# A port on which no connection is ever accepted: its queue is full.
my $hole = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1, Proto => 'tcp')
  or die "could not listen: $!";
my @queue;
foreach my $n (1 .. 8)
{
	my $client = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0);

	$client->connect(pack_sockaddr_in($hole->sockport, inet_aton('127.0.0.1')));
	push @queue, $client;
}

create_connection($node, 'good', $good, users_rate => 1000);
create_connection($node, 'bad', $bad, users_rate => 1000);
create_connection($node, 'hole', $good, users_rate => 1000,
	base_url => 'http://127.0.0.1:' . $hole->sockport, connect_timeout => '2s');

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table of a name and a sync of the same name.
sub create_sync
{
	my ($name, $connection) = @_;

	return sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int);
		SELECT iterable_create_sync('$name', '$connection', '$name', 'user', 'id', 'email');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', 'updates_only')});
}

sub state_of
{
	my ($sync) = @_;

	return sql("SELECT state || ': ' || coalesce(reason, '') FROM iterable.sync_status WHERE sync = '$sync'");
}

my $flow = 0;

# The sync of another connection sends as if nothing were the matter.
sub flows
{
	my ($what) = @_;
	my $started = time();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$flow++;
	sql("INSERT INTO quick VALUES ($flow, 'quick$flow\@example.com', $flow)");
	$node->safe_psql('postgres', q{SELECT * FROM iterable_wait('quick')});
	cmp_ok(time() - $started, '<', 3, $what);
	return is((grep { $_->{email} eq "quick$flow\@example.com" } $good->users), 1, 'it is there');
}

sub worker
{
	return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker'
		AND datname = 'postgres'});
}

sub worker_obeys
{
	my ($what) = @_;
	my $worker = worker();
	my $started = time();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	kill('TERM', $worker);
	usleep(5_000) while kill(0, $worker) && time() < $started + 10;
	cmp_ok(time() - $started, '<', 1, $what);
	return wait_until(sub { worker() ne '' }, 'another worker comes');
}

create_sync('quick', 'good');
create_sync('slow', 'bad');
create_sync('lost', 'hole');

### A server that does not answer

$bad->script({ action => 'hang', times => 0 });
sql(q{INSERT INTO slow VALUES (0, 'slow0@example.com', 0)});
wait_until(sub { $bad->stats->{inFlight} == 1 }, 'a request hangs');
my %took;
foreach my $table ('slow', 'quick', 'slow', 'quick')
{
	my $from = $table eq 'quick' ? 1000 : 1;
	my $started = time();

	$from += 100 if exists $took{$table};
	sql(join("\n", map { "INSERT INTO $table VALUES ($_, '$table$_\@example.com', $_);" } $from .. $from + 99));
	push @{ $took{$table} }, time() - $started;
}
is(sql('SELECT count(*) FROM slow'), '201', 'all commits went through');
is(sql(q{SELECT sum(n) FROM iterable.change c JOIN iterable.source s USING (source_id) WHERE table_name = 'slow'}),
	'201', 'and are in the change log');
note("100 commits took, in seconds: hanging @{$took{slow}}, healthy @{$took{quick}}");
flows('another connection goes on');
worker_obeys('a worker with a hanging request obeys SIGTERM');
wait_until(sub { $bad->stats->{inFlight} == 1 }, 'a request hangs again');
flows('another connection goes on');

### A server that fails

$bad->reset;
$bad->script({ action => 'answer', status => 503, headers => { 'Retry-After' => '1' }, times => 0 });
wait_until(sub { state_of('slow') =~ /^failing: Iterable answered with status 503/ }, 'the sync backs off and says why');
flows('another connection goes on');
worker_obeys('a worker that backs off obeys SIGTERM');
flows('another connection goes on');
$bad->reset;
synced($node, 'slow', 'when the server is well everything arrives');
is($bad->stats->{users}, 201, 'all of it');
is(state_of('slow'), 'enabled: ', 'the sync is no longer failing');

### A server that is not there

sql(q{INSERT INTO lost VALUES (1, 'lost@example.com', 1)});
wait_until(sub { sql(q{SELECT window_end IS NOT NULL FROM iterable.sync_state JOIN iterable.sync USING (sync_id) WHERE name = 'lost'}) eq 't' },
	'a request tries to connect');
flows('another connection goes on');
worker_obeys('a worker that connects obeys SIGTERM');
wait_until(sub { state_of('lost') =~ /^failing: no answer: / }, 'the sync says that there is no answer');
flows('another connection goes on');
my $started = time();
$node->stop('fast');
cmp_ok(time() - $started, '<', 3, 'a fast stop does not wait');
$node->start;
sql(q{SELECT iterable_drop_sync('lost')});
is(sql(q{SELECT count(*) FROM iterable.sync_status WHERE sync = 'lost'}), '0', 'a sync that cannot connect can be dropped');

### Syncs that are dropped and disabled while a request is under way

$bad->script({ action => 'apply_then_hang' });
sql(q{INSERT INTO slow VALUES (2001, 'slow2001@example.com', 1)});
wait_until(sub { $bad->stats->{inFlight} == 1 }, 'a request hangs');
$started = time();
sql(q{SELECT iterable_drop_sync('slow')});
cmp_ok(time() - $started, '<', 3, 'its sync can be dropped');
sql(q{
	SELECT iterable_create_sync('slow', 'bad', 'slow', 'user', 'id', 'email');
	SELECT iterable_add_mapping('slow', 'n', column_name => 'n');
	SELECT iterable_enable_sync('slow', 'updates_only');
	INSERT INTO slow VALUES (2002, 'slow2002@example.com', 1)});
$bad->release;
synced($node, 'slow', 'another of that name sends');
is(sql(q{SELECT string_agg(key, ' ') FROM iterable.delivery WHERE sync = 'slow' AND state = 'accepted'}), '2002',
	'and has nothing of what was under way');

$bad->script({ action => 'apply', delayMs => 1000 });
sql(q{INSERT INTO slow VALUES (2003, 'slow2003@example.com', 1)});
wait_until(sub { $bad->stats->{inFlight} == 1 }, 'an answer is late');
sql(q{SELECT iterable_disable_sync('slow');
	INSERT INTO slow VALUES (2004, 'slow2004@example.com', 1)});
wait_until(sub { sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'slow' AND key = '2003'}) eq '1' },
	'it is recorded although the sync was disabled meanwhile');
usleep(500_000);
is((grep { $_->{email} eq 'slow2004@example.com' } $bad->users), 0, 'but nothing more is sent');
sql(q{SELECT iterable_enable_sync('slow')});
$started = time();
synced($node, 'slow', 'enabled again, it goes on where it stopped');
cmp_ok(time() - $started, '<', 10, 'at once');
is((grep { $_->{email} eq 'slow2004@example.com' } $bad->users), 1, 'with what was captured meanwhile');

### A source that is locked

# The lock is taken at the very end of the transaction that changes it.
my $session = $node->background_psql('postgres');
my $waiter = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; INSERT INTO slow VALUES (1002, 'slow1002@example.com', 1)});
$waiter->query_until(qr/waits/, "BEGIN;\n\\echo waits\nLOCK TABLE slow;\n");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'slow'::regclass});
$session->query_safe('COMMIT');
wait_until(sub { state_of('slow') =~ /^failing: .*lock timeout/ }, 'a sync whose source is locked says so');
flows('others go on');
$waiter->query_safe('COMMIT');
$waiter->quit;
synced($node, 'slow', 'it goes on when the lock is gone');

### Sources that do not fit any more

sql(q{CREATE ROLE app; CREATE ROLE stranger; GRANT CREATE ON SCHEMA public TO app, stranger;
	GRANT USAGE ON FOREIGN SERVER good TO app});
create_sync($_, 'good') foreach ('moved', 'narrow', 'gone');
sql(q{
	SET ROLE app;
	CREATE TABLE owned (id int PRIMARY KEY, email text, n int);
	SELECT iterable_create_sync('owned', 'good', 'owned', 'user', 'id', 'email');
	SELECT iterable_add_mapping('owned', 'n', column_name => 'n');
	SELECT iterable_enable_sync('owned', 'updates_only')});
sql(q{INSERT INTO gone VALUES (1, 'gone1@example.com', 1)});
synced($node, 'gone', 'all are well');
sql(qq{
	BEGIN;
	INSERT INTO $_ VALUES (5, '$_\@example.com', 1);
	} . {
		moved => 'ALTER TABLE moved RENAME TO elsewhere',
		narrow => 'ALTER TABLE narrow DROP COLUMN n',
		owned => 'ALTER TABLE owned OWNER TO stranger',
		gone => 'DROP TABLE gone'
	}->{$_} . '; COMMIT') foreach ('moved', 'narrow', 'owned', 'gone');
my %reasons = (
	moved => qr/^paused: source "public\.moved" of sync "moved" does not exist/,
	narrow => qr/^paused: .*column "n"/,
	owned => qr/^paused: .*(owner|owned|owns|permission|member)/,
	gone => qr/^paused: source "public\.gone" of sync "gone" does not exist/);
foreach my $sync (sort keys %reasons)
{
	wait_until(sub { state_of($sync) =~ /^paused/ }, "$sync is paused", 10);
	like(state_of($sync), $reasons{$sync}, 'and says why');
	is(sql("SELECT done FROM iterable_wait('$sync')"), 'f', 'iterable_wait() does not wait for it');
}
flows('others go on');
sql(q{ALTER TABLE elsewhere RENAME TO moved});
sql(q{ALTER TABLE narrow ADD COLUMN n int DEFAULT 2});
sql(q{ALTER TABLE owned OWNER TO app});
sql(q{CREATE TABLE gone (id int PRIMARY KEY, email text, n int);
	INSERT INTO gone VALUES (6, 'gone6@example.com', 1)});
foreach my $sync ('moved', 'narrow', 'owned')
{
	wait_until(sub { state_of($sync) eq 'enabled: ' }, "$sync goes on by itself when the reason is gone", 10);
	synced($node, $sync, 'and sends');
	is((grep { $_->{email} eq "$sync\@example.com" } $good->users), 1, 'the row that was pending');
}
sql(q{SELECT iterable_enable_sync('gone', 'backfill')});
synced($node, 'gone', 'a table that was made again is synced when it is enabled');
is(join(' ', sort grep { /^gone/ } map { $_->{email} } $good->users),
	'gone1@example.com gone6@example.com', 'as it is now');
like(sql(q{SELECT sum(vanished) FROM iterable.sync_status WHERE sync = 'gone'}), qr/^2$/,
	'the rows that went with the old one are counted, the one that was pending and the one that was sent');

### Locks on the change log, as those of pg_dump

my $dump = $node->background_psql('postgres');
$dump->query_safe(q{
	BEGIN ISOLATION LEVEL REPEATABLE READ;
	LOCK TABLE iterable.change, iterable.change_0, iterable.change_1, iterable.change_2, iterable.change_3,
		iterable.sync, iterable.sync_state, iterable.sync_delivery IN ACCESS SHARE MODE;
	SELECT count(*) FROM iterable.change});
foreach my $n (1 .. 3)
{
	sql('SELECT iterable.rotate_change_log()');
	flows('pg_dump does not keep anybody waiting');
}
$dump->query_safe('COMMIT');
$dump->quit;
is(sql(q{SELECT iterable.rotate_change_log() FROM generate_series(1, 3)}), "\n\n", 'then segments are emptied');

### Settings for everybody

$node->append_conf('postgresql.conf', q{
statement_timeout = 1ms
lock_timeout = 1ms
idle_in_transaction_session_timeout = 1ms
default_transaction_isolation = serializable
default_transaction_read_only = on
default_transaction_deferrable = on
synchronous_commit = off
row_security = off
session_replication_role = replica
});
$node->restart;
$ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'
  . ' -c default_transaction_read_only=off -c default_transaction_isolation=read\ committed'
  . ' -c default_transaction_deferrable=off';
flows('settings made for everybody do not reach the worker');
sql(q{UPDATE quick SET n = n + 1});
synced($node, 'quick', 'nor do they keep it from recording');
sql(q{SELECT iterable_disable_sync('quick')});
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'quick'}), sql('SELECT count(*) FROM quick'),
	'what was sent is recorded');

my @crashes = grep { /PANIC|TRAP|terminated by signal/ } split /\n/, log_of($node);
is(scalar(@crashes), 0, 'nothing has crashed');
$node->stop('fast');
done_testing();
