# Copyright (c) 2026, the iterable_sync developers

# What becomes of rows for every kind of answer, and for none: each row is
# accepted, stands in the failures, or is sent again.  Every scene has its own
# emulator, connection, table and sync, all of its name; those that take time
# are set up first and looked at last.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time);

my $node = start_cluster('main',
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\niterable_sync.rescan_interval = 3600\n");
my %emulator;
my $empty = {
	map { $_ => [] }
	  qw(conflictEmails conflictUserIds forgottenEmails forgottenUserIds
	  invalidDataEmails invalidDataUserIds invalidEmails invalidUserIds
	  notFoundEmails notFoundUserIds)
};

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Options: object, project_type, mode, options of the server, key_file.
sub scene
{
	my ($name, %options) = @_;
	my $object = delete $options{object} // 'user';
	my $project_type = delete $options{project_type} // 'email';
	my $identifier = $project_type eq 'email' ? 'email' : 'userId';
	my $mode = delete $options{mode} // 'upsert';

	$emulator{$name} = start_emulator(
		projectType => $project_type,
		usersRate => 0,
		eventsRate => 0,
		otherRates => JSON::PP::false);
	create_connection($node, $name, $emulator{$name},
		users_rate => 100, events_rate => 100, %options);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, who text, v jsonb DEFAULT '1', event text DEFAULT 'Event');
		SELECT iterable_create_sync('$name', '$name', '$name', '$object', 'id', mode => '$mode');
		SELECT iterable_add_mapping('$name', '$identifier', column_name => 'who');
		SELECT iterable_add_mapping('$name', 'v', column_name => 'v');
		SELECT iterable_add_mapping('$name', 'secret', constant => 'canary-payload');
	});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', column_name => 'event')})
	  if $object eq 'event';
	sql(qq{SELECT iterable_enable_sync('$name', 'updates_only')});
	return $emulator{$name};
}

sub email
{
	my ($n) = @_;

	return "canary-person-$n\@example.com";
}

# Put rows of these numbers into a scene's table, in one transaction.
sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name (id, who) VALUES "
		  . join(', ', map { "($_, '" . email($_) . "')" } @numbers));
	return;
}

sub accepted
{
	my ($name) = @_;

	return sql("SELECT coalesce(string_agg(key, ' ' ORDER BY key::int), '') FROM iterable.delivery WHERE sync = '$name' AND state = 'accepted'");
}

sub failures
{
	my ($name) = @_;

	return sql("SELECT coalesce(string_agg(key || ' ' || class || CASE WHEN next_at IS NULL THEN '' ELSE ' later' END, ', ' ORDER BY key::int), '') FROM iterable.failure WHERE sync = '$name'");
}

sub status
{
	my ($name) = @_;

	return sql("SELECT state, reason FROM iterable.sync_status WHERE sync = '$name'");
}

sub bodies
{
	my ($name) = @_;

	return map { $_->{body} } $emulator{$name}->requests;
}

# An answer of a bulk endpoint as ordered.
sub bulk_answer
{
	my ($ok, $failed, %members) = @_;
	my $lists = delete $members{failedUpdates} // {};

	return {
		status => 200,
		body => {
			successCount => $ok,
			failCount => $failed,
			failedUpdates => { %$empty, %$lists },
			%members
		}
	};
}

#
# Scenes that take their time
#

# Failures that no list names, for ever.
scene('unaccounted')->script({ times => 0, %{ bulk_answer(1, 1) } });
insert('unaccounted', 1, 2);

# Answers that are none, but in the end one that is.
scene('garbage')->script(
	{ action => 'garbage' },
	{ status => 200, body => '' },
	{ status => 200, body => '<html><body>It works!</body></html>' },
	{ status => 200, body => '{"successCount":2,"failCount":0' });
insert('garbage', 1, 2);

# The same, for ever.
scene('html')->script({ times => 0, status => 200, body => '<html>canary-person</html>' });
insert('html', 1, 2);

# A key that is refused (401), with two syncs on the connection.
my $refused = scene('refused');
insert('refused', 1);
synced($node, 'refused', 'refused: the first row goes');
$refused->config({ disabledKeys => [ $refused->key ] });
sql(q{
	CREATE TABLE refused_too (id int PRIMARY KEY, who text);
	SELECT iterable_create_sync('refused_too', 'refused', 'refused_too', 'event', 'id', 'who');
	SELECT iterable_add_mapping('refused_too', 'eventName', constant => 'Event');
	SELECT iterable_enable_sync('refused_too', 'updates_only');
});
my $refused_before = $refused->requests;
insert('refused', 2);
wait_until(sub { status('refused') =~ /^paused/ }, 'refused: 401 stops the connection');
insert('refused', 3);
sql(qq{INSERT INTO refused_too VALUES (1, '@{[ email(1) ]}')});
my $refused_at = time();

# A third one, whose row needs no request: that is no news of the key.
sql(q{
	CREATE TABLE refused_quiet (id int PRIMARY KEY, who text);
	SELECT iterable_create_sync('refused_quiet', 'refused', 'refused_quiet', 'user', 'id', 'who');
	SELECT iterable_enable_sync('refused_quiet', 'updates_only');
	INSERT INTO refused_quiet VALUES (1, 'nowhere');
});

# The same for a sync that looks its users up.
my $looked = scene('looked', mode => 'update');
$looked->seed(map { { email => email($_) } } 1 .. 12);
$looked->config({ disabledKeys => [ $looked->key ] });
insert('looked', 1 .. 20);
wait_until(sub { status('looked') =~ /^paused/ }, 'looked up: 401 stops the connection');
$looked->config({ apiKeys => ['canary-new'], disabledKeys => [] });
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER looked OPTIONS (SET api_key 'canary-new')});

# A user that is not there yet.
my $unknown = scene('unknown', object => 'event');
$unknown->seed({ email => email(1) });
insert('unknown', 1, 2, 3);
my $unknown_at = time();
synced($node, 'unknown', 'unknown user: the events are dealt with', 2);
is(accepted('unknown'), '1', 'unknown user: the event of the known user is accepted');
like(failures('unknown'), qr/^2 notFoundEmails later, 3 notFoundEmails later$/,
	'unknown user: the others are tried later');
$unknown->seed({ email => email(2) });
sql(q{DELETE FROM unknown WHERE id = 3});
synced($node, 'unknown', 'unknown user: a row that is gone is no failure', 1);

# The limit of the project is lower than that of the connection.
my $limited = scene('limited', users_rate => 20);
$limited->config({ usersRate => 4, recordBodies => JSON::PP::false });
sql(q{INSERT INTO limited SELECT i, 'user' || i || '@example.com' FROM generate_series(1, 15000) i});

# One 429 halves the pace.
my $halved = scene('halved', users_rate => 8);
$halved->config({ recordBodies => JSON::PP::false });
$halved->script({ status => 429, body => { code => 'RateLimitExceeded', msg => 'x' }, headers => { 'Retry-After' => '1' } });
sql(q{INSERT INTO halved SELECT i, 'user' || i || '@example.com' FROM generate_series(1, 9000) i});

# A long way: as many requests are under way as the limit needs.
my $far = scene('far', users_rate => 5);
$far->config({ recordBodies => JSON::PP::false, latencyMs => 800 });
sql(q{INSERT INTO far SELECT i, 'user' || i || '@example.com' FROM generate_series(1, 30000) i});

# Answers that never come.
scene('silent', object => 'event', request_timeout => '400ms')->script(
	{ path => '/api/events/trackBulk', action => 'hang' },
	{ path => '/api/events/trackBulk', action => 'apply_then_hang' });
$emulator{silent}->seed(map { { email => email($_) } } 1 .. 3);
insert('silent', 1 .. 3);

# Iterable is in trouble.
scene('trouble')->script(
	{ status => 500, body => 'oops' },
	{ status => 503, body => '<html>canary-person</html>', headers => { 'Retry-After' => '1' } },
	{ status => 502, times => 2, body => { msg => 'An error with "canary-person" occurred', code => 'GenericError' } });
insert('trouble', 1, 2);

#
# Lists of failures, of users and of events, by e-mail and by user id
#
sub test_lists
{
	my ($name, $path, $kind, %lists) = @_;
	my $emulator = $emulator{$name};
	my $number = 0;
	my @expected;

	foreach my $list (sort keys %lists)
	{
		my $good = ++$number;
		my $bad = ++$number;

		$emulator->seed(map { { ($kind eq 'emails' ? 'email' : 'userId') => email($_) } } $good, $bad)
		  if $path =~ /events/;
		$emulator->script({ path => $path, failRows => { $kind => [ email($bad) ], list => $list } });
		insert($name, $good, $bad);
		push @expected, "$bad $list" . ($lists{$list} ? ' later' : '');
		synced($node, $name, "$name: a row in $list is dealt with", scalar(@expected));
	}
	is(failures($name), join(', ', @expected), "$name: each list is a reason");
	is( accepted($name),
		join(' ', map { 2 * $_ - 1 } 1 .. $number / 2),
		"$name: the other rows are accepted");
	sql("SELECT iterable_retry_failures('$name')");
	synced($node, $name, "$name: failed rows are sent again");
	is(accepted($name), join(' ', 1 .. $number), "$name: and accepted");
	return;
}

scene('users');
test_lists('users', '/api/users/bulkUpdate', 'emails',
	map { $_ => 0 } qw(invalidEmails forgottenEmails notFoundEmails invalidDataEmails conflictEmails));
scene('users_by_id', project_type => 'userid');
test_lists('users_by_id', '/api/users/bulkUpdate', 'userIds',
	map { $_ => 0 } qw(invalidUserIds forgottenUserIds notFoundUserIds invalidDataUserIds conflictUserIds));
scene('events', object => 'event');
test_lists('events', '/api/events/trackBulk', 'emails',
	invalidEmails => 0, forgottenEmails => 0, notFoundEmails => 1);
scene('events_by_id', object => 'event', project_type => 'userid');
test_lists('events_by_id', '/api/events/trackBulk', 'userIds',
	invalidUserIds => 0, forgottenUserIds => 0, notFoundUserIds => 1);

# Lists of other times, in answers as ordered.
sub test_answer
{
	my ($name, $what, $answer, $expected) = @_;
	my $base = sql("SELECT 1 + max(key::int) FROM iterable.delivery WHERE sync = '$name'");
	my @numbers = map { $base + $_ } 1 .. 3;
	my $failed = () = $expected =~ /\d/g;

	$emulator{$name}->script($answer->(map { email($_) } @numbers));
	insert($name, @numbers);
	synced($node, $name, "$what: is understood", $failed);
	is(failures($name), $expected =~ s/(\d) /$numbers[$1 - 1] /gr, "$what: the rows that it names are failures");
	is( sql("SELECT count(*) FROM iterable.delivery WHERE sync = '$name' AND state = 'accepted' AND key::int > $base"),
		3 - $failed,
		"$what: the others are accepted");
	sql("DELETE FROM $name WHERE id > $base");
	synced($node, $name, "$what: failures of rows that are gone go");
	return;
}

test_answer('users', 'the deprecated lists',
	sub { bulk_answer(1, 2, invalidEmails => [ $_[0], uc $_[2] ], invalidUserIds => []) },
	'1 invalidEmails, 3 invalidEmails');
test_answer('users', 'an answer of 2017, without failedUpdates',
	sub { { status => 200, body => { successCount => 2, failCount => 1, invalidEmails => [ $_[1] ] } } },
	'2 invalidEmails');
test_answer('users', 'a failure in a deprecated list and a newer one',
	sub { bulk_answer(2, 1, invalidEmails => [ $_[1] ], failedUpdates => { invalidDataEmails => [ $_[1] ] }) },
	'2 invalidDataEmails');
test_answer('users', 'a list that is not known yet',
	sub { bulk_answer(2, 1, failedUpdates => { quarantinedEmails => [ $_[0] ] }) },
	'1 failedUpdates');
test_answer('users', 'members that are not known yet',
	sub { bulk_answer(3, 0, nonsense => { deep => [ 1, undef ] }, createdFields => ['x']) }, '');
test_answer('users', 'the other case',
	sub { bulk_answer(2, 1, failedUpdates => { invalidEmails => [ uc $_[2] ] }) },
	'3 invalidEmails');
test_answer('events', 'unknown user ids in their deprecated list',
	sub { bulk_answer(2, 1, invalidEmails => [ $_[1] ]) }, '2 invalidEmails');

# Disallowed event names
$emulator{events}->config({ disallowedEventNames => ['Banned'] });
$emulator{events}->seed(map { { email => email($_) } } 501 .. 503);
sql("INSERT INTO events (id, who, event) VALUES (501, '@{[ email(501) ]}', 'Event'), (502, '@{[ email(502) ]}', 'Banned'), (503, '@{[ email(503) ]}', 'Event')");
synced($node, 'events', 'a disallowed event is dealt with', 1);
is(failures('events'), '502 disallowedEventNames', 'it is a failure');
like(accepted('events'), qr/ 501 503$/, 'the other events are accepted');

# Counts that do not fit at first
scene('counts')->script(bulk_answer(1, 2, failedUpdates => { invalidEmails => [ email(2) ] }));
insert('counts', 1 .. 3);
synced($node, 'counts', 'more failures than named: the rows are sent again', 1);
is(failures('counts'), '2 invalidEmails', 'what was named is a failure');
is(accepted('counts'), '1 3', 'the others are accepted when the counts fit');
my @counted = bodies('counts');
is(scalar(@counted), 2, 'in two requests');
unlike($counted[1], qr/person-2@/, 'the second without the failed row');

#
# Requests that are refused as a whole
#
scene('bodies')->config({ echoHeaders => JSON::PP::true });
$emulator{bodies}->script({
	status => 400,
	body => {
		code => 'BadJsonBody',
		msg => '[/api/users/bulkUpdate] body: {"users":[{"email":"canary-person-1@example.com"}]} hdrs: List((Api-Key,' . $emulator{bodies}->key . '))',
		params => { 'obj.users[1].dataFields' => 'Object value expected', 'obj.users[3].email' => [ { msg => ['error.expected.jsstring'], args => [] } ] }
	}
});
insert('bodies', 1 .. 5);
synced($node, 'bodies', 'BadJsonBody: is dealt with', 2);
is(failures('bodies'), '2 BadJsonBody, 4 BadJsonBody', 'BadJsonBody: the rows that it names are failures');
is(accepted('bodies'), '1 3 5', 'BadJsonBody: the others are accepted');
is(scalar(bodies('bodies')), 2, 'BadJsonBody: by the next request');

my $types = scene('types');
insert('types', 1);
synced($node, 'types');
sql("INSERT INTO types SELECT i, 'user' || i || '\@example.com', CASE i WHEN 37 THEN '\"canary-payload\"' ELSE '2' END::jsonb FROM generate_series(2, 65) i");
synced($node, 'types', 'a type clash: is dealt with', 1);
is(failures('types'), '37 RequestFieldsTypesMismatched', 'a type clash: only the culprit is a failure');
is($types->stats->{users}, 64, 'a type clash: the others are accepted');
is(scalar(bodies('types')), 3, 'a type clash: at once, by the value that the answer names');
sql(q{INSERT INTO types SELECT i, 'user' || i || '@example.com', '"text"' FROM generate_series(101, 140) i});
synced($node, 'types', 'all rows clash: are dealt with', 41);
sql(q{UPDATE types SET v = '3'});
synced($node, 'types', 'mended rows are accepted');
is($types->stats->{users}, 105, 'all of them');
is(scalar(bodies('types')), 5, 'and few requests were made for all that');

scene('others')->script(
	{ status => 409, body => { code => 'SomethingNew', msg => 'User canary-person-1@example.com is taken' } },
	{ status => 409, body => { code => 'SomethingNew', msg => 'User canary-person-1@example.com is taken' } });
insert('others', 1, 2);
synced($node, 'others', '409: is dealt with', 1);
is(failures('others'), '1 Conflict', '409: the row that is refused alone is a failure');
is(accepted('others'), '2', '409: the other is accepted');
$emulator{others}->script({ status => 418, body => 'I am a teapot called "canary-person"' });
insert('others', 3);
synced($node, 'others', 'another 4xx: is dealt with', 2);
like(failures('others'), qr/3 Rejected$/, 'another 4xx: is a failure');
is( sql("SELECT count(*) FROM iterable.failure WHERE sync = 'others' AND message IS NOT NULL"),
	'2', 'all failures say something');

scene('large')->script(
	{ status => 413, body => { code => 'BatchTooLarge', msg => 'x' }, times => 2 },
	{ action => 'apply' },
	{ status => 413, body => '<html>too large</html>' });
insert('large', 1 .. 8);
synced($node, 'large', '413: is dealt with');
is(accepted('large'), '1 2 3 4 5 6 7 8', '413: all rows are accepted');
is( join(' ', map { scalar(() = /"email"/g) } bodies('large')),
	'8 4 2 2 1 1 1 1 1 1',
	'413: requests are halved, and stay so');
$emulator{large}->script({ status => 413, body => 'x' });
insert('large', 9);
synced($node, 'large', '413 for a single row: is dealt with', 1);
is(failures('large'), '9 too_large', '413 for a single row: it is a failure');

#
# Requests of unknown outcome
#
my $dropped = scene('dropped', object => 'event');
$dropped->seed(map { { email => email($_) } } 1 .. 4);
$dropped->script(
	map { { path => '/api/events/trackBulk', action => $_ } }
	  qw(drop apply_then_drop truncate));
insert('dropped', 1 .. 3);
wait_until(sub { bodies('dropped') >= 1 }, 'dropped: a request is lost');
sql(q{UPDATE dropped SET v = '2' WHERE id = 2});
synced($node, 'dropped', 'dropped: everything arrives');
my @dropped = bodies('dropped');
is(scalar(@dropped), 5, 'dropped: by five requests');
is($dropped[$_], $dropped[0], 'dropped: the same batch again') foreach 1 .. 3;
is(scalar(() = $dropped[4] =~ /"email"/g), 1, 'dropped: and then what has changed meanwhile');
my @events = $dropped->events;
is(scalar(@events), 3, 'dropped: each event exists once');
is((grep { $_->{email} eq email(1) } @events)[0]{writes}, 3, 'dropped: though it was sent again');
is((grep { $_->{email} eq email(2) } @events)[0]{dataFields}{v}, 2, 'dropped: the newest state has won');
is(accepted('dropped'), '1 2 3', 'dropped: all are accepted');
$dropped->script({ action => 'slow', delayMs => 1 }, { action => 'close' });
insert('dropped', 4);
synced($node, 'dropped', 'a slow answer is one');
sql(q{UPDATE dropped SET v = '3'});
synced($node, 'dropped', 'so is the last one of a connection');
is(scalar(bodies('dropped')), 7, 'they are not asked for again');

# Rows that vanish while it is not known what Iterable has of them, and come
# back as Iterable had accepted them before
my $doubt = scene('doubt');
insert('doubt', 1, 2);
synced($node, 'doubt', 'doubt: two rows are accepted');
$doubt->script({ path => '/api/users/bulkUpdate', action => 'apply_then_hang' });
sql(q{UPDATE doubt SET v = '2' WHERE id = 1});
wait_until(sub { $doubt->stats->{inFlight} == 1 }, 'doubt: the outcome of a change is not known');
sql(q{SELECT iterable_disable_sync('doubt'); DELETE FROM doubt WHERE id = 1});
$doubt->release;
wait_until(sub { sql(q{
	SELECT count(*) FROM pg_locks JOIN iterable.sync ON sync_id = objid
	WHERE locktype = 'advisory' AND name = 'doubt'}) eq '0' }, 'doubt: the run ends without an answer');
sql(q{SELECT iterable_enable_sync('doubt')});
synced($node, 'doubt', 'doubt: the row is gone when it would be sent again');
$doubt->script({ action => 'apply_then_answer', %{ bulk_answer(0, 1, failedUpdates => { invalidDataEmails => [ email(2) ] }) } });
sql(q{UPDATE doubt SET v = '2' WHERE id = 2});
synced($node, 'doubt', 'doubt: another is refused in part', 1);
sql(q{DELETE FROM doubt});
synced($node, 'doubt', 'doubt: and gone, too');
is(join(' ', map { $_->{dataFields}{v} } $doubt->users), '2 2', 'doubt: Iterable has both changes');
insert('doubt', 1, 2);
synced($node, 'doubt', 'doubt: the rows come back as they were');
is(join(' ', map { $_->{dataFields}{v} } $doubt->users), '1 1', 'doubt: and are sent');

#
# Connections that stop
#
my $key_file = PostgreSQL::Test::Utils::tempdir() . '/canary.key';
sub write_key
{
	my ($key) = @_;

	append_to_file("$key_file.new", "$key\n");
	chmod(0600, "$key_file.new");
	rename("$key_file.new", $key_file);
	return;
}

write_key('canary-wrong');
my $forbidden = scene('forbidden', key_file => $key_file, users_rate => '0.3', rate_group => 'shared');
$forbidden->script({ status => 403, body => { code => 'Forbidden', msg => 'Key canary-wrong must not' } });
insert('forbidden', 1);
wait_until(sub { status('forbidden') =~ /^paused/ }, '403: stops the connection');
like(status('forbidden'), qr/^paused\|connection is stopped: Iterable answered with status 403/, '403: says so');
my $started = time();
like(sql(q{SELECT * FROM iterable_wait('forbidden', '1 min')}),
	qr/^f\|0\|the connection is stopped: Iterable answered with status 403/,
	'403: one need not wait');
cmp_ok(time() - $started, '<', 10, '403: not at all');
insert('forbidden', 2);
write_key($forbidden->key);
wait_until(sub { accepted('forbidden') eq '1 2' }, '403: another key in the file is taken at once', 12);
synced($node, 'forbidden', '403: and the rows are sent');
is(status('forbidden'), 'enabled|', '403: the connection is open again');
is(failures('forbidden'), '', '403: no row has failed');

my $elsewhere = start_emulator();
my $moved = scene('moved');
$moved->script({ times => 0, status => 307, headers => { Location => $elsewhere->url . '/api/users/bulkUpdate' }, body => '' });
insert('moved', 1);
wait_until(sub { status('moved') =~ /^paused/ }, 'a redirect: stops the connection');
like(status('moved'), qr/status 307/, 'a redirect: says so');
is(scalar($elsewhere->requests), 0, 'a redirect: is not followed');

#
# Connections that are changed while their syncs are running
#
my $other = start_emulator(projectType => 'userid', apiKeys => ['canary-other']);
scene('changed', project_type => 'userid');
insert('changed', 1);
synced($node, 'changed', 'changed: a row goes the old way');
$node->safe_psql('postgres', qq{
	BEGIN;
	ALTER SERVER changed OPTIONS (SET base_url '@{[ $other->url ]}');
	ALTER USER MAPPING FOR PUBLIC SERVER changed OPTIONS (SET api_key 'canary-other');
	COMMIT;
});
insert('changed', 2);
synced($node, 'changed', 'changed: the next one the new way');
is(join(' ', map { scalar($_->requests) } $emulator{changed}, $other), '1 1',
	'changed: by another address and key');
sql(q{
	CREATE ROLE tenant;
	GRANT USAGE ON FOREIGN SERVER changed TO tenant;
	CREATE TABLE tenants (id int PRIMARY KEY, who text);
	ALTER TABLE tenants OWNER TO tenant;
	SET ROLE tenant;
	SELECT iterable_create_sync('tenants', 'changed', 'tenants', 'user', 'id', 'who');
	SELECT iterable_enable_sync('tenants', 'updates_only');
	INSERT INTO tenants VALUES (1, 'one');
});
synced($node, 'tenants', 'changed: a role with USAGE sends');
sql(q{
	REVOKE USAGE ON FOREIGN SERVER changed FROM tenant;
	INSERT INTO tenants VALUES (2, 'two');
});
like(sql(q{SELECT * FROM iterable_wait('tenants', '5 s')}), qr/^f\|0\|the sync is paused: permission denied/,
	'changed: a role without does not');
is(accepted('tenants'), '1', 'changed: its rows wait');
sql(q{
	GRANT USAGE ON FOREIGN SERVER changed TO tenant;
	SELECT iterable_enable_sync('tenants');
});
synced($node, 'tenants', 'changed: until it may again');
is(accepted('tenants'), '1 2', 'changed: nothing is lost');

#
# Those that took their time
#
wait_until(sub { failures('unaccounted') ne '' }, 'unaccounted: rows are parked in the end', 60);
is(failures('unaccounted'), '1 unknown_outcome, 2 unknown_outcome', 'unaccounted: as unknown');
is(accepted('unaccounted'), '', 'unaccounted: none is accepted');
my @unaccounted = bodies('unaccounted');
is(scalar(@unaccounted), 4, 'unaccounted: they were sent again');
is($unaccounted[1], $unaccounted[0], 'unaccounted: in the same batch');
is((grep { (() = /"email"/g) == 1 } @unaccounted), 2, 'unaccounted: and then one by one');
$emulator{unaccounted}->reset;
sql(q{SELECT iterable_retry_failures('unaccounted')});
synced($node, 'unaccounted', 'unaccounted: they can be tried again');
is(accepted('unaccounted'), '1 2', 'unaccounted: with success');

wait_until(sub { failures('html') ne '' }, 'no answer: rows are parked in the end', 60);
is(failures('html'), '1 unknown_outcome, 2 unknown_outcome', 'no answer: as unknown');
is(accepted('html'), '', 'no answer: none is accepted');
is(status('html'), 'enabled|', 'no answer: and the sync goes on');

wait_until(sub { accepted('garbage') eq '1 2' }, 'garbage: rows are sent until there is an answer', 60);
is(failures('garbage'), '', 'garbage: none has failed');
is(scalar(bodies('garbage')), 5, 'garbage: after five requests');

wait_until(sub { accepted('trouble') eq '1 2' }, '5xx: rows are sent until it works', 60);
my @times = map { $_->{at} } $emulator{trouble}->requests;
is(scalar(@times), 6, '5xx: after four requests, in two halves');
cmp_ok($times[2] - $times[1], '>=', 0.99, '5xx: Retry-After is respected');
synced($node, 'trouble');
is(status('trouble'), 'enabled|', '5xx: and all is well');
like(
	sql(q{SELECT last_error FROM iterable.sync_status WHERE sync = 'trouble'}),
	qr/^Iterable answered with status 502: An error with \.\.\. occurred \(request [0-9a-f-]+\)$/,
	'5xx: the last error is remembered, with the id of the request, without data');
like(log_of($node), qr/LOG:  sync "trouble" is failing: Iterable answered with status 502/, '5xx: and was logged');

wait_until(sub { accepted('silent') eq '1 2 3' }, 'no answer in time: rows are sent until there is one', 60);
my @silent = bodies('silent');
is(scalar(@silent), 3, 'no answer in time: by three requests');
is((grep { $_ ne $silent[0] } @silent), 0, 'no answer in time: of the same batch');
is((grep { $_->{writes} != 2 } $emulator{silent}->events), 0, 'no answer in time: each event exists once');

wait_until(sub { $halved->stats->{users} == 9000 }, '429: everything arrives', 60);
my @halved = map { $_->{at} } $halved->requests;
is(scalar(@halved), 10, '429: one request was made again');
cmp_ok($halved[2] - $halved[0], '>=', 0.99, '429: Retry-After is respected');
is((grep { $halved[$_ + 4] - $halved[$_] < 0.8 } 2 .. $#halved - 4), 0, '429: the pace is half of what it was');

wait_until(sub { $far->stats->{users} == 30000 }, 'far away: everything arrives', 60);
my @far = map { $_->{at} } $far->requests;
cmp_ok($far[-1] - $far[-16], '<', 15 / 5 / 0.9, 'far away: the limit is used nevertheless');

wait_until(sub { $limited->stats->{users} == 15000 }, 'many 429: everything arrives', 60);
synced($node, 'limited', 'many 429: the sync ends');
cmp_ok($limited->stats->{requests}{'/api/users/bulkUpdate'}{status}{429} // 0, '>', 0, 'many 429: there were some');
is(failures('limited'), '', 'many 429: nothing has failed');

wait_until(sub { accepted('looked') eq join(' ', 1 .. 12) }, 'looked up: a new key is taken at once', 15);
synced($node, 'looked', 'looked up: nothing is lost');

# The refused key
is(failures('refused_quiet'), '1 bad_email', 'refused: a row that needs no request is dealt with');
is( status('refused'),
	'paused|connection is stopped: Iterable answered with status 401: ' . sql(q{SELECT substring(reason FROM 'status 401: (.*)') FROM iterable.sync_status WHERE sync = 'refused'}),
	'refused: the reason stands in the status');
is(status('refused_too'), status('refused'), 'refused: of the other sync, too');
like(sql(q{SELECT what_to_do FROM iterable.sync_status WHERE sync = 'refused'}),
	qr/Give the connection a key/, 'refused: with what to do');
cmp_ok(time() - $refused_at, '>', 5, 'refused: a while has passed');
cmp_ok(scalar($refused->requests) - $refused_before, '<=', time() - $refused_at < 55 ? 1 : 2,
	'refused: at most one request a minute');
$refused->config({ apiKeys => ['canary-new'], disabledKeys => [] });
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER refused OPTIONS (SET api_key 'canary-new')});
wait_until(sub { accepted('refused') eq '1 2 3' }, 'refused: a new key is taken at once', 10);
wait_until(sub { accepted('refused_too') eq '1' }, 'refused: for the other sync, too', 10);
synced($node, $_, 'refused: nothing is lost') foreach qw(refused refused_too);
is(failures('refused') . failures('refused_too'), '', 'refused: no row has failed');
is(status($_), 'enabled|', 'refused: the connection is open') foreach qw(refused refused_too);

# The unknown users
wait_until(sub { accepted('unknown') eq '1 2' },
	'unknown user: the event is accepted when the user exists, by itself',
	60);
cmp_ok(sql(q{SELECT extract(epoch FROM max(at)) FROM iterable.delivery WHERE sync = 'unknown' AND key = '2'}) - $unknown_at,
	'<', 40, 'unknown user: after half a minute');
insert('unknown', 4);
synced($node, 'unknown', 'unknown user: another event is dealt with', 1);
$unknown->seed({ email => email(4) });
is(sql(q{SELECT iterable_retry_failures('unknown')}), '1', 'unknown user: one can ask for it');
synced($node, 'unknown', 'unknown user: and wait');
is(accepted('unknown'), '1 2 4', 'unknown user: to be accepted at once');

#
# What is nobody's business
#
my $public = sql(q{
	SELECT message FROM iterable.failure;
	SELECT reason, last_error, what_to_do FROM iterable.sync_status;
	SELECT reason FROM iterable.connection_state;
});
foreach my $secret (map({ $_->key } values %emulator), 'canary-person', 'canary-payload', 'canary-wrong', 'canary-new', 'example.com')
{
	log_lacks($node, $secret, "no $secret is in the log");
	ok(index($public, $secret) < 0, 'nor in what people see');
}
unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');

done_testing();
