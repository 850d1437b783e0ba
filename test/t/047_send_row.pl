# Copyright (c) 2026, the iterable_sync developers

# iterable_send_row(): what it sends, what it says of every kind of answer,
# what it records, and that it keeps its place among the runs of its sync.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use PostgreSQL::Test::Cluster;
use Time::HiRes qw(time usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main',
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\niterable_sync.rescan_interval = 3600\n");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Options: object, mode, enabled; all else are options of the server.
sub scene
{
	my ($name, %options) = @_;
	my $object = delete $options{object} // 'user';
	my $mode = delete $options{mode} // 'upsert';
	my $apply = delete $options{apply};
	my $filter = delete $options{filter} // '';

	create_connection($node, $name, $emulator,
		users_rate => 100, events_rate => 100, rate_group => $name, %options);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int, ok boolean DEFAULT true);
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com', 1 FROM generate_series(1, 9) i;
		SELECT iterable_create_sync('$name', '$name', '$name', '$object', 'id', 'email', mode => '$mode', filter => nullif('$filter', ''));
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n')});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', constant => '$name');
		SELECT iterable_add_mapping('$name', 'id', expression => \$\$'$name-' || id\$\$);
		SELECT iterable_add_mapping('$name', 'createdAt', constant => '1700000000')})
	  if $object eq 'event';
	sql(qq{SELECT iterable_enable_sync('$name', '$apply')}) if $apply;
	return;
}

sub send_row
{
	my ($name, $key) = @_;

	return sql("SELECT request, status, answer, verdict FROM iterable_send_row('$name', '$key')");
}

sub verdict
{
	return (split /\|/, send_row(@_))[-1];
}

sub delivery
{
	my ($name, $key) = @_;

	return sql("SELECT state, payload_hash IS NOT NULL FROM iterable.delivery WHERE sync = '$name' AND key = '$key'");
}

sub failure
{
	my ($name, $key) = @_;

	return sql("SELECT class, next_at IS NOT NULL FROM iterable.failure WHERE sync = '$name' AND key = '$key'");
}

# "n writes" of a user.
sub user_of
{
	my ($email) = @_;

	return join(' ', map { "$_->{dataFields}{n} $_->{writes}" } grep { $_->{email} eq $email } $emulator->users);
}

sub posts
{
	return scalar(grep { $_->{method} eq 'POST' } $emulator->requests);
}

#
# A sync that was never enabled
#
scene('plain', filter => 'ok');
like(send_row('plain', 1),
	qr/^\{"users":\[\{"email":"plain1\@example\.com","dataFields":\{"n":1\}\}\]\}\|200\|\{.*"successCount":1.*\}\|accepted$/,
	'the request, the status, the answer and the verdict');
is(user_of('plain1@example.com'), '1 1', 'Iterable has the row');
is(delivery('plain', 1), 'accepted|t', 'and it is recorded');
is(verdict('plain', 1), 'accepted', 'a row that Iterable has is sent all the same');
is(user_of('plain1@example.com'), '1 2', 'again');
is(sql(q{SELECT outcome, rows FROM iterable_explain('plain') ORDER BY 1}), "send|8\nunchanged|1",
	'iterable_explain() knows of it');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'plain'}), 'disabled', 'the sync is disabled all the time');

my $before = posts();
is(send_row('plain', 99), '|||not sent: vanished', 'a key that has no row');
sql(q{UPDATE plain SET ok = false WHERE id IN (1, 2)});
is(send_row('plain', 2), '|||not sent: filtered', 'a row that the filter keeps out');
is(delivery('plain', 2), '', 'that was never sent leaves no trace');
is(verdict('plain', 1), 'not sent: filtered', 'another that was');
is(delivery('plain', 1), 'left|t', 'has left');
sql(q{UPDATE plain SET email = 'nowhere' WHERE id = 3});
is(send_row('plain', 3), '|||not sent: refused: bad_email: the e-mail address has no @', 'a row that cannot be sent');
is(failure('plain', 3), 'bad_email|f', 'is a failure');
sql(q{UPDATE plain SET email = 'plain3@example.com' WHERE id = 3});
is(posts(), $before, 'nothing was sent of all this');
is(verdict('plain', 3), 'accepted', 'mended, it goes');
is(failure('plain', 3), '', 'and is no failure');

sql(q{UPDATE plain SET email = 'plain4@example.invalid' WHERE id = 4});
like(send_row('plain', 4), qr/\|200\|.*\|rejected: invalidEmails: Iterable refuses the e-mail address as malformed$/,
	'a row that Iterable rejects');
is(failure('plain', 4), 'invalidEmails|f', 'is a failure, too');
is(delivery('plain', 4), '', 'and not delivered');
sql(q{ALTER TABLE plain ALTER n TYPE text USING n::text; UPDATE plain SET n = 'word' WHERE id = 5});
like(send_row('plain', 5), qr/\|400\|.*\|rejected: RequestFieldsTypesMismatched: wrong type of n which is long$/,
	'a request that Iterable refuses, with the reason');

sql(q{SELECT iterable_update_sync('plain', dry_run => true)});
$before = $emulator->requests;
is(send_row('plain', 6), '{"users":[{"email":"plain6@example.com","dataFields":{"n":"1"}}]}|||not sent: dry run',
	'a dry run shows the request');
is(scalar($emulator->requests), $before, 'and does not make it');
is(delivery('plain', 6), '', 'nor remember it');

#
# Answers
#
scene('answers', request_timeout => '1s');
$emulator->script({ path => '/api/users/bulkUpdate', status => 429, body => { code => 'RateLimitExceeded', msg => 'too many', params => undef } });
like(send_row('answers', 1), qr/\|429\|\{.*RateLimitExceeded.*\}\|retry: Iterable answered with status 429/, 'a 429');
is(delivery('answers', 1) . failure('answers', 1), '', 'leaves nothing');
$emulator->script({ path => '/api/users/bulkUpdate', status => 503, body => "no\x{e9} \0 utf" });
like(send_row('answers', 1), qr/\|503\|.*\|retry: Iterable answered with status 503/s, 'a 503 that is no text');
is(verdict('answers', 1), 'accepted', 'a row as usual');

sql(q{UPDATE answers SET n = 2 WHERE id = 1});
$emulator->script({ path => '/api/users/bulkUpdate', action => 'apply_then_hang' });
like(send_row('answers', 1), qr/^\{.*\}\|\|\|unknown: no answer: /, 'no answer in time');
is(user_of('answers1@example.com'), '2 2', 'although the row was applied');
is(delivery('answers', 1), 'accepted|f', 'what Iterable has is not known');
is(sql(q{SELECT outcome, rows FROM iterable_explain('answers') ORDER BY 1}), "send|9", 'so it would be sent again');
$emulator->script({ path => '/api/users/bulkUpdate', status => 200, body => { successCount => 1, failCount => 1, failedUpdates => {} } });
like(verdict('answers', 2), qr/^unknown: Iterable answered with status 200: the answer does not account/, 'an answer without the row');
$emulator->script({ path => '/api/users/bulkUpdate', action => 'apply_then_hang' });
sql(q{ALTER SERVER answers OPTIONS (SET request_timeout '30s')});
my $begun = time();
is( $node->safe_psql('postgres', q{SET statement_timeout = '1s'; SELECT verdict FROM iterable_send_row('answers', '1')}),
	'unknown: canceling statement due to statement timeout', 'a cancel while the answer is awaited');
cmp_ok(time() - $begun, '<', 10, 'ends the waiting');
$emulator->release;
is(verdict('answers', 1), 'accepted', 'then it goes again');
is(delivery('answers', 1), 'accepted|t', 'and is known');

# What was sent is not rolled back: a row that goes back to what it was is sent.
scene('undone', apply => 'backfill');
synced($node, 'undone', 'rows that Iterable has');
sql(q{SELECT iterable_disable_sync('undone'); UPDATE undone SET n = 2 WHERE id IN (1, 2)});
is(sql(q{BEGIN; SELECT verdict FROM iterable_send_row('undone', '1'); ROLLBACK}), 'accepted', 'a record that is rolled back');
is(delivery('undone', 1), 'accepted|f', 'leaves that what Iterable has is not known');
is(sql(q{BEGIN; SELECT verdict FROM iterable_send_row('undone', '3'); ROLLBACK}), 'accepted', 'unless it was sent what it had');
is(delivery('undone', 3), 'accepted|t', 'before');
is(user_of('undone1@example.com'), '2 2', 'Iterable has the newer state');
sql(q{UPDATE undone SET n = 1 WHERE id IN (1, 2); SELECT iterable_enable_sync('undone')});
synced($node, 'undone', 'the rows go back');
is(user_of('undone1@example.com') . ', ' . user_of('undone2@example.com'), '1 3, 1 1', 'and Iterable has what the table has');

# A transaction that has begun before the row changed
my $early = $node->background_psql('postgres');
$early->query_safe(q{BEGIN; SELECT now()});
my $changed = sql(q{SELECT iterable_disable_sync('undone'); UPDATE undone SET n = 4 WHERE id = 3; SELECT clock_timestamp()});
is($early->query_safe(q{SELECT verdict FROM iterable_send_row('undone', '3'); COMMIT}), 'accepted', 'a row that has changed since');
$early->quit;
is(sql(qq{SELECT at > '$changed' FROM iterable.delivery WHERE sync = 'undone' AND key = '3'}), 't', 'is recorded as accepted after that');

# Somebody repeats the key.
$emulator->config({ echoHeaders => JSON::PP::true });
$emulator->script({ path => '/api/users/bulkUpdate', status => 400, body => { code => 'BadParams', msg => 'key ' . $emulator->key, params => { key => $emulator->key } } });
my $echoed = send_row('answers', 1);
like($echoed, qr/\|400\|.*key \*{8,}.*\|rejected: BadParams/, 'an answer that repeats the key');
is(index($echoed, $emulator->key), -1, 'does not show it');
$emulator->config({ echoHeaders => JSON::PP::false });

# A key that is refused
scene('refused');
$emulator->script({ path => '/api/users/bulkUpdate', status => 401, body => { code => 'BadApiKey', msg => 'Invalid API key', params => undef } });
like(send_row('refused', 1), qr/\|401\|.*\|retry: the connection is stopped: Iterable answered with status 401/, 'a 401');
is(failure('refused', 1), '', 'is no failure of the row');
$before = posts();
like(sql_error($node, q{SELECT * FROM iterable_send_row('refused', '1')}),
	qr/^08006: connection "refused" is stopped\nDETAIL:  Iterable answered with status 401/, 'the connection is stopped');
is(posts(), $before, 'and nothing is sent over it');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER refused OPTIONS (SET api_key 'canary-wrong')});
like(verdict('refused', 1), qr/^retry: the connection is stopped/, 'another wrong key is tried');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER refused OPTIONS (SET api_key '" . $emulator->key . "')");
is(verdict('refused', 1), 'accepted', 'the right key opens it');
is(sql(q{SELECT count(*) FROM iterable.connection_state}), '0', 'for all');

# The limit of requests
scene('slow', users_rate => 0.15);
is(verdict('slow', 1), 'accepted', 'the first row goes');
like(sql_error($node, q{SELECT * FROM iterable_send_row('slow', '2')}),
	qr/^53400: too many requests over connection "slow"/, 'the next one would wait too long');

#
# Modes
#
scene('inserted', mode => 'insert');
is(verdict('inserted', 1) . ' ' . verdict('inserted', 1), 'accepted accepted', 'insert: a row goes as often as it is asked for');

scene('updated', mode => 'update');
$emulator->seed({ email => 'updated1@example.com' });
is(verdict('updated', 1), 'accepted', 'update: a user whom Iterable knows');
like(send_row('updated', 2), qr/^\|\d+\|.*\|skipped: Iterable does not know the user/, 'update: one whom it does not');
is(user_of('updated2@example.com'), '', 'update: is not created');
$before = scalar(grep { $_->{method} eq 'GET' } $emulator->requests);
is(verdict('updated', 1), 'accepted', 'update: a user who was accepted');
is(scalar(grep { $_->{method} eq 'GET' } $emulator->requests), $before, 'update: is not looked up');
$emulator->script({ path => '/api/users/', status => 500, body => 'x' });
like(verdict('updated', 3), qr/^retry: the user look-up failed: Iterable answered with status 500/, 'update: a look-up that fails');

$emulator->config({ updateOnly => JSON::PP::true });
scene('told', mode => 'update', update_only => 'true');
like(send_row('told', 1), qr/^\{"updateOnly":true.*\|200\|.*\|skipped: Iterable does not know the user/, 'updateOnly: Iterable tells');
$emulator->config({ updateOnly => JSON::PP::false });

scene('event', mode => 'update', object => 'event');
like(verdict('event', 1), qr/^retry: notFoundEmails: /, 'an event of an unknown user');
is(failure('event', 1), 'notFoundEmails|t', 'is tried again by itself');
$emulator->seed({ email => 'event1@example.com' });
is(verdict('event', 1), 'accepted', 'update: an event goes, since it was asked for');
is(scalar($emulator->events), 1, 'and is there');

#
# The worker
#
scene('live', apply => 'updates_only');
sql(q{UPDATE live SET n = 2 WHERE id = 1});
synced($node, 'live', 'the worker runs the sync');
cmp_ok(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 7 AND granted}), '>=', 1,
	'and keeps its lock while it is idle');
$begun = time();
is(verdict('live', 2), 'accepted', 'a row goes nevertheless');
cmp_ok(time() - $begun, '<', 3, 'soon');
sql(q{UPDATE live SET n = 3 WHERE id = 2});
synced($node, 'live', 'the worker takes it up again');
is(user_of('live2@example.com'), '3 2', 'with the next change');

# While a row is on its way, and until its record is committed, the worker waits.
my $session = $node->background_psql('postgres');
$emulator->script({ path => '/api/users/bulkUpdate', delayMs => 1500 });
$session->query_until(qr/begun/, "\\echo begun\nBEGIN; SELECT verdict FROM iterable_send_row('live', '3');\n");
usleep(300_000);
sql(q{UPDATE live SET n = 7 WHERE id = 3});
sql(q{UPDATE live SET n = 8 WHERE id = 4});
wait_until(sub { user_of('live3@example.com') ne '' }, 'the row that was committed before arrives');
usleep(1_500_000);
is(user_of('live3@example.com'), '1 1', 'and nothing newer as long as its transaction is open');
is(user_of('live4@example.com'), '', 'nor any other row of the sync');
$session->query_safe('COMMIT');
$session->quit;
synced($node, 'live', 'then the worker goes on');
is(user_of('live3@example.com') . ', ' . user_of('live4@example.com'), '7 2, 8 1', 'what is newer came last');
is(delivery('live', 3), 'accepted|t', 'and is what is remembered');

# A run that is under way is not interrupted.
$emulator->script({ path => '/api/users/bulkUpdate', action => 'apply_then_hang' });
my $posts = posts();
sql(q{UPDATE live SET n = 9 WHERE id = 5});
wait_until(sub { posts() > $posts }, 'the worker has sent something');
$begun = time();
like(sql_error($node, q{SELECT * FROM iterable_send_row('live', '6')}), qr/^55006: sync "live" is being run\nDETAIL.*\nHINT/,
	'and keeps its lock until it is answered');
cmp_ok(time() - $begun, '>', 9, 'ten seconds are waited');
cmp_ok(time() - $begun, '<', 25, 'but no longer');
like(sql_error($node, q{SET lock_timeout = '200ms'; SELECT * FROM iterable_send_row('live', '6')}), qr/^55006: /,
	'or less if lock_timeout says so');
$emulator->release;
synced($node, 'live', 'the run ends');
is(verdict('live', 6), 'accepted', 'then the row goes');

# Both at once, again and again: Iterable ends with what the table has.
$session = $node->background_psql('postgres');
$session->query_until(qr/begun/, "\\echo begun\n"
	. join('', map { "SELECT verdict FROM iterable_send_row('live', '8');\n" } 1 .. 20));
foreach my $n (1 .. 40)
{
	sql("UPDATE live SET n = 100 + $n WHERE id = 8");
	usleep(20_000);
}
$session->query_safe('SELECT 1');
$session->quit;
synced($node, 'live', 'all is sent');
like(user_of('live8@example.com'), qr/^140 /, 'the newest state came last');
is($emulator->stats->{maxInFlightSameUser}, 1, 'and no two requests of one user at once');

# Rows that are locked by nobody else: two sessions, one after the other.
my @sessions = map { $node->background_psql('postgres') } 1 .. 2;
$_->query_until(qr/begun/, "\\echo begun\nSELECT verdict FROM iterable_send_row('live', '9');\n") foreach @sessions;
$_->query_safe('SELECT 1') foreach @sessions;
$_->quit foreach @sessions;
is(user_of('live9@example.com'), '1 2', 'two who send the same row take turns');

# The definition cannot change under a row.
$session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT verdict FROM iterable_send_row('live', '7')});
like(sql_error($node, q{SET lock_timeout = '200ms'; SELECT iterable_drop_sync('live')}), qr/^55P03: /,
	'a sync is not dropped while a row of it is being sent');
$session->query_safe('ROLLBACK');
$session->quit;

# Somebody without rights, and the owner's right to use the connection
sql(q{CREATE ROLE nobody; CREATE ROLE tenant; GRANT USAGE ON FOREIGN SERVER live TO tenant;
	CREATE TABLE tenants (id int PRIMARY KEY, email text); INSERT INTO tenants VALUES (1, 'tenant@example.com');
	ALTER TABLE tenants OWNER TO tenant; SET ROLE tenant;
	SELECT iterable_create_sync('tenants', 'live', 'tenants', 'user', 'id', 'email')});
like(sql_error($node, q{SET ROLE nobody; SELECT * FROM iterable_send_row('live', '1')}),
	qr/^42704: sync "live" does not exist/, 'who may not see a sync may not send');
is(sql(q{SET ROLE tenant; SELECT verdict FROM iterable_send_row('tenants', '1')}), 'accepted', 'an owner may');
sql(q{REVOKE USAGE ON FOREIGN SERVER live FROM tenant});
like(sql_error($node, q{SET ROLE tenant; SELECT * FROM iterable_send_row('tenants', '1')}),
	qr/^42501: permission denied for foreign server live/, 'but not without the connection');
like(sql_error($node, q{SELECT * FROM iterable_send_row('tenants', '1')}),
	qr/^42501: permission denied for foreign server live/, 'nor may another for it');

# Without the library being preloaded there is no worker that lets go, nor one
# that is needed.
my $main = $node;
$node = start_cluster('bare', preload => 0);
scene('bare');
is(verdict('bare', 1), 'accepted', 'without preloading a row goes');
sql(q{UPDATE bare SET n = 2 WHERE id = 1});
is(sql(q{BEGIN; SELECT verdict FROM iterable_send_row('bare', '1'); ROLLBACK}), 'accepted', 'another state of it, too');
is(delivery('bare', 1), 'accepted|f', 'of which it is known that nothing is known');
is(verdict('bare', 1), 'accepted', 'until the record is committed');
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->restart;
is(verdict('bare', 1), 'accepted', 'no process is needed for what Iterable has');
sql(q{UPDATE bare SET n = 3 WHERE id = 1});
like(sql_error($node, q{SELECT * FROM iterable_send_row('bare', '1')}), qr/^53400: no background worker is free\nHINT/,
	'without a process for what it has not, nothing is sent');
is(user_of('bare1@example.com'), '2 4', 'as one can see');
$node->stop;
$node = $main;

log_lacks($node, $_, "no $_ is in the log") foreach $emulator->key, 'example.com';
unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');
done_testing();
