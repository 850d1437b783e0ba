# Copyright (c) 2026, the iterable_sync developers

# What is known of failed rows, and what becomes of them: by themselves, when
# they change, and when somebody asks.  One emulator and one table a scene.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $node = start_cluster('main', conf => "log_statement = 'none'\nlog_min_error_statement = panic\niterable_sync.rescan_interval = 3600\n");
my %emulator;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table and its sync, both of this name, by e-mail.
sub scene
{
	my ($name, %options) = @_;
	my $object = delete $options{object} // 'user';

	$emulator{$name} = start_emulator(
		usersRate => 0,
		eventsRate => 0,
		otherRates => JSON::PP::false,
		%options);
	create_connection($node, $name, $emulator{$name}, users_rate => 100, events_rate => 100);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, who text, v jsonb DEFAULT '1', extra text);
		SELECT iterable_create_sync('$name', '$name', '$name', '$object', 'id', match_field => 'who');
		SELECT iterable_add_mapping('$name', 'v', column_name => 'v');
		SELECT iterable_add_mapping('$name', 'extra', column_name => 'extra');
	});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', constant => 'Event')}) if $object eq 'event';
	sql(qq{SELECT iterable_enable_sync('$name', 'updates_only')});
	return $emulator{$name};
}

sub email
{
	return "canary-person-$_[0]\@example.com";
}

sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name (id, who) VALUES " . join(', ', map { "($_, '" . email($_) . "')" } @numbers));
	return;
}

sub accepted
{
	return sql("SELECT coalesce(string_agg(key, ' ' ORDER BY key::int), '') FROM iterable.delivery WHERE sync = '$_[0]' AND state = 'accepted'");
}

sub failures
{
	return sql("SELECT coalesce(string_agg(key || ' ' || class || CASE WHEN next_at IS NULL THEN '' ELSE ' later' END, ', ' ORDER BY key::int), '') FROM iterable.failure WHERE sync = '$_[0]'");
}

# A list of failures for the next request.
sub fail_rows
{
	my ($name, $list, @numbers) = @_;

	$emulator{$name}->script({ failRows => { emails => [ map { email($_) } @numbers ], list => $list } });
	return;
}

# This one takes its time, so it is looked at last.
scene('huge')->script({ times => 0, status => 200, body => 'x' x 9_000_000 });
insert('huge', 1);

#
# What a failure shows
#
scene('shown');
fail_rows('shown', 'invalidDataEmails', 1);
insert('shown', 1, 2);
synced($node, 'shown', 'a row fails', 1);
is( sql(q{SELECT key, class, code, message, what_to_do, attempts, next_at, payload, first_at = last_at FROM iterable.failure}),
	'1|invalidDataEmails||Iterable refuses a value in dataFields|Compare the types of the mapped fields with those in the project.|1|||t',
	'a failure has class, message, advice, times, and no payload');
like(sql(q{SELECT request_id FROM iterable.failure}), qr/^[0-9a-f-]{8,}$/, 'and the id of the request');

sql(q{ALTER SYSTEM SET iterable_sync.keep_failed_payloads = on});
sql(q{SELECT pg_reload_conf()});
fail_rows('shown', 'invalidDataEmails', 1);
is(sql(q{SELECT iterable_retry_failures('shown')}), '1', 'it is tried again');
synced($node, 'shown', 'it fails again', 1);
is( sql(q{SELECT payload->>'email', payload->'dataFields'->>'v', attempts, first_at < last_at FROM iterable.failure}),
	email(1) . '|1|2|t',
	'where a setting says so, with the payload');
fail_rows('shown', 'invalidDataEmails', 1);
sql(q{UPDATE shown SET v = '2' WHERE id = 1});
synced($node, 'shown', 'it changes, and fails again', 1);
is( sql(q{SELECT payload->'dataFields'->>'v', attempts FROM iterable.failure}),
	'2|1', 'attempts count from the latest change');
sql(q{ALTER SYSTEM RESET iterable_sync.keep_failed_payloads});
sql(q{SELECT pg_reload_conf()});
wait_until(sub { sql(q{SELECT payload, attempts FROM iterable.failure}) eq '|1' },
	'without the setting, the payload is gone', 10);
fail_rows('shown', 'invalidDataEmails', 1);
sql(q{SELECT iterable_retry_failures('shown')});
synced($node, 'shown', 'once more', 1);
is(sql(q{SELECT payload, attempts FROM iterable.failure}), '|2', 'nor is it kept anew');
is( sql(q{SELECT count(*) FROM iterable.failure WHERE payload IS NOT NULL OR message LIKE '%canary%'}),
	'0', 'no message holds data');

sql(q{UPDATE shown SET v = '3' WHERE id = 1});
synced($node, 'shown', 'a newer change is tried by itself');
is(accepted('shown'), '1 2', 'and clears the failure');

#
# An answer that repeats what was sent: nothing of it is kept
#
my $echo = scene('echo');
my @echoes = (
	'Contact canary-person-1@example.com is forgotten',
	'canary-person-1 is no address',
	'Value CANARYPERSON is wrong, and canaryword, too',
	'Invalid JSON body: {"users":[{"email":"canary-person-1@example.com"}]}',
	'Headers: List((Api-Key,' . $echo->key . '))');
$echo->script(map { { status => 400, body => { code => 'BadParams', msg => $_ } } } @echoes);
sql(q{INSERT INTO echo (id, who, extra) SELECT i, 'canary-person-1@example.com', 'some canaryword CANARYPERSON' FROM generate_series(1, 5) i});
synced($node, 'echo', 'rows are refused with an echo', 5);
is( sql(q{SELECT string_agg(message, ', ' ORDER BY key) FROM iterable.failure WHERE sync = 'echo'}),
	'Contact ... is forgotten, ... is no address, Value ... is wrong, and ... too, Invalid JSON, Iterable refuses the row',
	'the failures say what is wrong, and not of whom');

#
# Some of the failures
#
scene('chosen');
fail_rows('chosen', 'invalidDataEmails', 1, 2, 3);
insert('chosen', 1 .. 4);
synced($node, 'chosen', 'three rows fail', 3);
$emulator{chosen}->script({ status => 409, body => { code => 'EmailAlreadyExists', msg => 'x' } });
insert('chosen', 5);
synced($node, 'chosen', 'and another one, differently', 4);
is(sql(q{SELECT iterable_retry_failures('chosen', keys => '{1,4}')}), '1', 'a key is tried again');
synced($node, 'chosen', 'a key is done', 3);
is(failures('chosen'), '2 invalidDataEmails, 3 invalidDataEmails, 5 EmailAlreadyExists', 'no other');
is(sql(q{SELECT iterable_retry_failures('chosen', code => 'EmailAlreadyExists', older_than => '0')}), '1', 'a code is tried again');
synced($node, 'chosen', 'a code is done', 2);
is(sql(q{SELECT iterable_retry_failures('chosen', class => 'invalidDataEmails', older_than => '1 h')}), '0', 'none is so old');
is(sql(q{SELECT iterable_discard_failures('chosen', class => 'invalidDataEmails', keys => '{3}')}), '1', 'one is discarded');
is(failures('chosen'), '2 invalidDataEmails', 'the other stays');
is(accepted('chosen'), '1 4 5', 'what was discarded is not accepted');
sql(q{UPDATE chosen SET extra = 'x' WHERE id = 3});
synced($node, 'chosen', 'it changes', 1);
is(accepted('chosen'), '1 3 4 5', 'and is sent then');

#
# A discarded row that goes back to what was accepted: what Iterable has is not
# known, so it is no unchanged one.
#
my $back = scene('back');
insert('back', 1);
synced($node, 'back', 'a row is accepted');
$back->script({
	action => 'apply_then_answer', status => 200,
	body => { successCount => 0, failCount => 1, failedUpdates => { invalidDataEmails => [ email(1) ] } } });
sql(q{UPDATE back SET v = '2'});
synced($node, 'back', 'its change is applied, and refused', 1);
is(sql(q{SELECT iterable_discard_failures('back')}), '1', 'the failure is discarded');
sql(q{UPDATE back SET v = '1'});
synced($node, 'back', 'it goes back');
is(join(' ', map { $_->{dataFields}{v} } $back->users), '1', 'and is sent');

#
# Rows that Iterable has an internal error with: they wait for their own sake
#
my %at_once = (headers => { 'Retry-After' => '0' });
my $poison = scene('poison');
$poison->script(
	{ status => 500, body => { code => 'GenericError', msg => 'x' }, times => 4, %at_once },
	{ action => 'apply' },
	{ status => 500, body => { code => 'GenericError', msg => 'x' }, times => 3, %at_once },
	{ action => 'apply' });
insert('poison', 1 .. 3);
synced($node, 'poison', 'a row with an internal error is put off', 1);
is(failures('poison'), '2 ServerError later', 'as a failure that is tried again');
is(accepted('poison'), '1 3', 'it holds up no other, nor is the next one put off for one error');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'poison'}), 'enabled', 'nor the sync');
cmp_ok(sql(q{SELECT extract(epoch FROM next_at - last_at) FROM iterable.failure WHERE sync = 'poison'}),
	'==', 30, 'in half a minute');

# When it is tried again, nothing waits with it: it goes after the others, by a
# request of its own, and is put off at once.
my $before = $poison->requests;
$poison->script({ action => 'apply' }, { status => 500, body => { code => 'GenericError', msg => 'x' } });
sql(q{SELECT iterable_disable_sync('poison')});
sql(q{SELECT iterable_retry_failures('poison')});
insert('poison', 4, 5);
sql(q{SELECT iterable_enable_sync('poison', 'updates_only')});
synced($node, 'poison', 'it is tried again', 1);
is(accepted('poison'), '1 3 4 5', 'what is new goes before it');
is(sql(q{SELECT key || ' ' || attempts FROM iterable.failure WHERE sync = 'poison'}), '2 2', 'and it is put off again');
is(scalar($poison->requests) - $before, 2, 'after one try');
sql(q{SELECT iterable_retry_failures('poison')});
synced($node, 'poison', 'it is accepted later');

# Of several the culprit is found without pauses; in an outage all are put off.
my $again = scene('again');
fail_rows('again', 'invalidDataEmails', 1 .. 8);
insert('again', 1 .. 8);
synced($node, 'again', 'several rows fail', 8);
$before = $again->requests;
$again->script({ status => 500, body => 'oops', times => 4 });
sql(q{SELECT iterable_retry_failures('again')});
synced($node, 'again', 'they are tried again, and one has an internal error', 1);
is(failures('again'), '1 ServerError later', 'it is put off');
fail_rows('again', 'invalidDataEmails', 11 .. 40);
insert('again', 11 .. 40);
synced($node, 'again', 'many rows fail', 31);
my $count = $again->requests;
$again->script({ status => 503, body => 'oops', times => 9 });
sql(q{SELECT iterable_retry_failures('again', class => 'invalidDataEmails')});
synced($node, 'again', 'they are tried again in an outage', 31);
is(scalar($again->requests) - $count, 9, 'which is tried a few times');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'again' AND class = 'ServerError' AND next_at IS NOT NULL}),
	'31', 'all are put off');
my @at = map { $_->{at} } ($again->requests)[$before .. $before + 4];
cmp_ok($at[4] - $at[0], '<', 1, 'none of that takes a pause');

# So in an outage, but not before long; and more often, then less often, then
# not at all.
my $outage = scene('outage');
$outage->script({ status => 503, body => 'oops', times => 12, %at_once });
insert('outage', 1);
synced($node, 'outage', 'after a long outage a row is put off', 1);
is(scalar($outage->requests), 12, 'after a dozen tries');
$outage->script({ status => 503, body => 'oops' });
sql(q{SELECT iterable_retry_failures('outage')});
synced($node, 'outage', 'an outage again', 1);
cmp_ok(sql(q{SELECT extract(epoch FROM next_at - last_at) FROM iterable.failure WHERE sync = 'outage'}),
	'==', 60, 'the second try comes after a minute');
sql(q{UPDATE iterable.sync_failure SET attempts = 11 FROM iterable.sync s WHERE s.sync_id = sync_failure.sync_id AND s.name = 'outage'});
$outage->script({ status => 503, body => 'oops' });
sql(q{SELECT iterable_retry_failures('outage')});
synced($node, 'outage', 'and again', 1);
is(failures('outage'), '1 ServerError', 'in the end it waits for a person');
$outage->script({ status => 503, body => 'oops', times => 12, %at_once });
sql(q{UPDATE outage SET v = '2'});
synced($node, 'outage', 'or for a change', 1);
is(failures('outage'), '1 ServerError later', 'which begins anew');

# The same of look-ups
my $looked = scene('looked');
sql(q{SELECT iterable_update_sync('looked', mode => 'update', apply => 'updates_only')});
$looked->seed({ email => email(1) }, { email => email(2) });
$looked->script({ path => '/api/users/canary-person-2', status => 500, body => 'oops', times => 6, %at_once });
insert('looked', 1, 2);
synced($node, 'looked', 'a look-up that fails puts its row off', 1);
is(failures('looked'), '2 ServerError later', 'its row');
is(accepted('looked'), '1', 'and no other');
$looked->script({ path => '/api/users/canary-person-2', status => 500, body => 'oops' });
sql(q{SELECT iterable_retry_failures('looked')});
synced($node, 'looked', 'it is tried again', 1);
is(sql(q{SELECT key || ' ' || attempts FROM iterable.failure WHERE sync = 'looked'}), '2 2', 'and put off again, after one try');

#
# Failures that are counted and not named: the rows are found
#
scene('hidden', object => 'event')->seed(map { { email => email($_) } } 1 .. 8);
sql("INSERT INTO hidden SELECT i, 'canary-person-' || i || '\@example.com', (CASE WHEN i IN (2, 7) THEN '1e30' ELSE '1.5' END)::jsonb FROM generate_series(1, 8) i");
synced($node, 'hidden', 'unnamed failures are told apart', 2);
is(failures('hidden'), '2 failedUpdates, 7 failedUpdates', 'both of them');
is(accepted('hidden'), '1 3 4 5 6 8', 'the others are accepted');

my $absurd = scene('absurd');
$absurd->script({ times => 0, status => 200, body => { successCount => 1, failCount => 1, failedUpdates => {} } });
insert('absurd', 1 .. 40);
synced($node, 'absurd', 'answers that make no sense park rows', 40);
is( sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'absurd' AND class = 'unknown_outcome' AND next_at IS NULL}),
	'40', 'all of them, as unknown');
cmp_ok(scalar($absurd->requests), '<=', 12, 'it does not take a request for each');

#
# Refused requests that name nobody: the culprits are found by halves
#
my $limit = scene('limited');
insert('limited', 0);
synced($node, 'limited');
$limit->config({ fieldLimit => 1 });
sql(q{INSERT INTO limited SELECT i, 'user' || i || '@example.com', '1', CASE WHEN i IN (137, 900) THEN 'x' END FROM generate_series(1, 1000) i});
synced($node, 'limited', 'a limit of fields is met', 2);
is(failures('limited'), '137 UniqueFieldsLimitExceeded, 900 UniqueFieldsLimitExceeded', 'only the rows that would pass it are failures');
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'limited' AND state = 'accepted'}), '999', 'the others are accepted');
cmp_ok(scalar($limit->requests), '<=', 2 + 2 * 19, 'by at most 2 log2(1000) more requests for each');

# at a place where that takes many: the requests that grow again count, too
$count = $limit->requests;
sql(q{INSERT INTO limited SELECT i, 'user' || i || '@example.com', '1', CASE WHEN i = 1487 THEN 'x' END FROM generate_series(1001, 2000) i});
synced($node, 'limited', 'a single row passes the limit', 3);
is(($limit->requests)[$count]{rows}, 1000, 'among a thousand in a request');
cmp_ok(scalar($limit->requests) - $count, '<=', 1 + 19, 'it is found by at most 2 log2(1000) more requests');

#
# Values of the wrong type, in rows that the answers let find
#
my $types = scene('types');
sql(q{INSERT INTO types VALUES (0, 'user0@example.com', '{"n": 1, "b": true}', '2024-01-02')});
synced($node, 'types');
sql(q{INSERT INTO types SELECT i, 'user' || i || '@example.com', CASE
	WHEN i % 100 = 1 THEN '{"n": "red"}' WHEN i % 100 = 2 THEN '{"n": 1.5}' WHEN i % 100 = 3 THEN '{"b": 7}'
	ELSE '{"n": 2, "b": false}' END::jsonb, CASE WHEN i % 100 = 4 THEN 'tomorrow' ELSE '2024-01-03' END
	FROM generate_series(1, 1000) i});
synced($node, 'types', 'many type clashes are dealt with', 40);
is( sql(q{SELECT string_agg(DISTINCT key::int % 100 || ' ' || class || ': ' || message, E'\n') FROM iterable.failure WHERE sync = 'types'}),
	join("\n", map { "$_ RequestFieldsTypesMismatched: wrong type of " . (qw(- v.n v.n v.b extra))[$_] . ' which is ' . (qw(- long long boolean date))[$_] } 1 .. 4),
	'the culprits are failures, with the field');
cmp_ok(scalar($types->requests), '<=', 6, 'found in few requests');

#
# Fields that Iterable does not take over
#
my $filtered = scene('filtered', createNewFields => JSON::PP::false);
insert('filtered', 1);
synced($node, 'filtered', 'a row with an unknown field is accepted');
is( sql(q{SELECT array_agg(DISTINCT f) FROM iterable.run, unnest(filtered_fields) f WHERE sync = 'filtered'}),
	'{v}', 'the run tells that the field was dropped');
is( sql(q{SELECT state, warning, what_to_do FROM iterable.sync_status WHERE sync = 'filtered'}),
	'enabled|Iterable has dropped mapped fields in the last 24 hours: v|Create the fields in the project, set create_new_fields to always, or drop the mappings.',
	'and the status warns');
sql(q{SELECT iterable_update_sync('filtered', create_new_fields => 'always', apply => 'updates_only')});
insert('filtered', 2);
synced($node, 'filtered', 'when it may create fields');
is( sql(q{SELECT array_agg(DISTINCT f) FROM iterable.run, unnest(created_fields) f WHERE sync = 'filtered'}),
	'{v}', 'the run tells that as well');
is(sql(q{SELECT warning FROM iterable.sync_status WHERE sync = 'types'}), '', 'no warning without a reason');

#
# People and the worker at the same failures, in every order
#
my $busy = scene('busy');
$busy->config({ recordBodies => JSON::PP::false });
sql(q{INSERT INTO busy SELECT i, 'nobody' || i FROM generate_series(1, 300) i});
sql(q{INSERT INTO busy SELECT i, 'person-' || i || '@example.com', '1' FROM generate_series(301, 600) i});
synced($node, 'busy', 'busy: rows fail', 300);
my $script = PostgreSQL::Test::Utils::tempdir() . '/busy.sql';
append_to_file($script, q{
\set way random(0, 3)
\if :way = 0
SELECT iterable_retry_failures('busy');
\elif :way = 1
SELECT iterable_discard_failures('busy', class => 'bad_email');
\else
BEGIN;
SELECT pg_advisory_xact_lock(1);
UPDATE busy SET who = CASE WHEN random() < 0.5 THEN 'nobody' ELSE 'person-' || id || '@example.com' END,
	v = to_jsonb(random()) WHERE id IN (SELECT id FROM busy ORDER BY random() LIMIT 100);
COMMIT;
\endif
});
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-T', '4', '-f', $script, 'postgres' ], 'busy: everybody works');
log_lacks($node, 'deadlock detected', 'busy: nobody is in anybody\'s way');

#
# Other answers
#
my $plain = scene('plain');
$plain->script(
	{ status => 429, body => 'Too Many Requests', headers => { 'Retry-After' => '0', 'Content-Type' => 'text/plain' } },
	{ status => 400, body => { code => 'Success', msg => 'error.lists.invalidListId(9)' } });
insert('plain', 1);
synced($node, 'plain', 'a 429 in plain text, and a 400 that says Success', 1);
is(failures('plain'), '1 Rejected', 'one is tried again, the other a failure');
$plain->script({ status => 404, body => '<html><title>Action not found</title></html>' });
insert('plain', 2);
wait_until(sub { sql(q{SELECT reason FROM iterable.sync_status WHERE sync = 'plain'}) =~
	/^connection is stopped: Iterable answered with status 404: there is no such endpoint/ }, 'a 404 stops the connection');
is(failures('plain'), '1 Rejected', 'and is no failure of a row');

# Answers of more than eight megabytes are none: the row is kept
wait_until(sub { sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'huge'}) eq 'failing' },
	'too large an answer: the sync is failing');
is(sql(q{SELECT reason FROM iterable.sync_status WHERE sync = 'huge'}), 'no answer: the answer is too large',
	'too large an answer: it says why');
is(accepted('huge') . failures('huge'), '', 'too large an answer: nobody is accepted or blamed');

#
# What is nobody's business
#
my $public = sql(q{
	SELECT message FROM iterable.failure;
	SELECT reason, last_error, what_to_do FROM iterable.sync_status;
});
foreach my $secret (map({ $_->key } values %emulator), 'canary-person', 'canaryword', 'CANARYPERSON')
{
	log_lacks($node, $secret, "no $secret is in the log");
	ok(index($public, $secret) < 0, 'nor in what people see');
}
is( sql(q{SELECT count(*) FROM iterable.failure WHERE what_to_do IS NULL}), '0',
	'there is advice for every failure');

done_testing();
