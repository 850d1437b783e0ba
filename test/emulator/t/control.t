# The control endpoints: settings, statistics, records, dumps, seeds.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Emulator;

my $emulator = Emulator->start;
my $users = '/api/users/bulkUpdate';
my $events = '/api/events/trackBulk';

$emulator->reset;

# statistics
$emulator->post($users, { users => [ { email => 'a@example.com' }, { email => 'bad@' } ] });
$emulator->post($users, { users => [] });
$emulator->post($events, { events => [ { email => 'a@example.com', eventName => 'e', id => '1' } ] });
$emulator->get('/api/users/a%40example.com');
my $stats = $emulator->stats;
is($stats->{users}, 1, 'users are counted');
is($stats->{events}, 1, 'events are counted');
is_deeply($stats->{requests}{$users},
	{ count => 2, rows => 2, accepted => 1, unanswered => 0, status => { 200 => 1, 400 => 1 } },
	'requests are counted by endpoint');
is_deeply($stats->{requests}{$events}{status}, { 200 => 1 }, 'and by status');
is($stats->{requests}{'/api/users/{email}'}{count}, 1, 'look-ups are counted under their pattern');
is($stats->{maxPerSecond}{'users/bulkUpdate'}, 2, 'arrivals in a second');
is($stats->{inFlight}, 0, 'nothing is in flight');
is($stats->{maxInFlight}, 1, 'one was');

# records
my $records = $emulator->lines('requests');
is(scalar(@$records), 4, 'every request is recorded');
is_deeply([ map { $_->{n} } @$records ], [ 1 .. 4 ], 'with a number');
is($records->[0]{path}, $users, 'its path');
is($records->[0]{status}, 200, 'its status');
is($records->[0]{rows}, 2, 'its rows');
is($records->[0]{accepted}, 1, 'how many were accepted');
is($records->[0]{contentType}, 'application/json', 'its content type');
cmp_ok($records->[0]{bytes}, '>', 20, 'its size');
ok(abs($records->[0]{at} - time) < 60, 'and when it was');
ok(!exists $records->[0]{body}, 'but not its body');
is(scalar(@{ $emulator->lines('requests?since=3') }), 1, 'since leaves out what is known');

$emulator->control('config', { recordBodies => JSON::PP::true });
my $text = qq({"users":[{"email":"b\@example.com","dataFields":{"t":"\x{c3}\x{a9}\\u0041","n":1.50}}]});
$emulator->post($users, \$text);
my $raw = $emulator->get('/control/requests?since=4')->{content};
like($raw, qr/\\"n\\":1\.50/, 'bodies are recorded as they were sent');
is($emulator->lines('requests?since=4')->[0]{body},
	do { my $copy = $text; utf8::decode($copy); $copy }, 'all of it');
my $broken = qq({"users":[{"email":"\xff"}]});
is($emulator->post($users, \$broken)->{status}, 400, 'broken UTF-8 is refused');
like($emulator->lines('requests?since=5')->[0]{body}, qr/\x{ff}/, 'and recorded, as Latin-1');

# dumps
$emulator->reset;
$emulator->control('seed',
	{ users => [ { email => 'X@example.com', userId => 'x', dataFields => { n => 1 } }, { userId => 'y' } ] });
is_deeply($emulator->lines('users'),
	[ { email => 'x@example.com', userId => 'x', dataFields => { n => 1 }, writes => 0 },
		{ email => undef, userId => 'y', dataFields => {}, writes => 0 } ],
	'the users, one a line');
$emulator->post($events, { events => [ { userId => 'y', eventName => 'say "hi"', id => 'i', createdAt => 5 } ] });
is_deeply($emulator->lines('events'),
	[ { id => 'i', eventName => 'say "hi"', email => undef, userId => 'y', createdAt => 5, dataFields => {}, writes => 1 } ],
	'the events, one a line');
is($emulator->get('/control/users')->{headers}{'content-type'}, 'application/x-ndjson', 'as such');
my $layout = qq({"users":[{"email":"l\@example.com",\n "dataFields": { "o" : {\n"a" : [ 1,\n2 ] } } }]});
$emulator->post($users, \$layout);
is($emulator->lines('users')->[2]{dataFields}{o}{a}[1], 2, 'line breaks in a body do not break the lines');

# many
$emulator->reset;
is($emulator->control('seed', { pgbench => { from => 1, to => 20000, emailFormat => 'User%d@example.com', userIdFormat => 'id-%d' } })->{created},
	20000, 'users by number');
my $all = $emulator->lines('users');
is(scalar(@$all), 20000, 'all of them come out');
is_deeply([ @{ $all->[19999] }{qw(email userId)} ], [ 'user20000@example.com', 'id-20000' ], 'as they were ordered');
is($emulator->post($events, { events => [ map { { email => "user$_\@example.com", eventName => 'e', id => "e$_" } } 1 .. 1000 ] })->{data}{successCount},
	1000, 'and are known');

# reset
$emulator->control('script', [ { status => 500 } ]);
$emulator->reset;
$stats = $emulator->stats;
is_deeply([ @$stats{qw(users events scriptLeft maxInFlightSameUser)}, scalar keys %{ $stats->{requests} } ],
	[ 0, 0, 0, 0, 0 ], 'a reset forgets everything');
is_deeply($emulator->lines('requests'), [], 'the records too');
$emulator->post($users, { users => [ { email => 'a@example.com', dataFields => { n => 'text' } } ] });
is($emulator->lines('requests')->[0]{n}, 1, 'and counts from one again');
is($emulator->lines('users')->[0]{dataFields}{n}, 'text', 'fields have lost their types');
$emulator->control('config', { createNewFields => JSON::PP::false });
$emulator->control('reset', {});
is_deeply($emulator->post($users, { users => [ { email => 'a@example.com', dataFields => { n => 1 } } ] })->{data}{filteredOutFields},
	['n'], 'settings stay over a reset');
$emulator->control('reset', { defaults => JSON::PP::true, projectType => 'userid' });
is_deeply($emulator->post($users, { users => [ { userId => 'u', dataFields => { n => 1 } } ] })->{data}{createdFields},
	['n'], 'unless the defaults are asked for');

# a user twice in flight
$emulator->reset(latencyMs => 200);
my @sockets = map { $emulator->send_only($users, { users => [ { email => $_ }, { email => 'Both@example.com' } ] }) } qw(a@example.com b@example.com);
Emulator::read_answer($_) for @sockets;
is($emulator->stats->{maxInFlightSameUser}, 2, 'a user in two requests at once is noticed');
$emulator->reset(latencyMs => 200);
@sockets = map { $emulator->send_only($users, { users => [ { email => $_ }, { email => $_ } ] }) } qw(a@example.com b@example.com);
Emulator::read_answer($_) for @sockets;
$stats = $emulator->stats;
is($stats->{maxInFlightSameUser}, 1, 'a user twice in one request is not');
is($stats->{maxInFlight}, 2, 'though the requests were');
is($stats->{inFlight}, 0, 'and are no more');

# what is wrong with a control request
is($emulator->post('/control/config', { projectType => 'x' })->{status}, 400, 'a wrong setting is refused');
is($emulator->post('/control/config', { nonsense => 1 })->{status}, 400, 'an unknown one too');
like($emulator->post('/control/config', { nonsense => 1 })->{data}{error}, qr/nonsense/, 'by name');
is($emulator->post('/control/script', [ { action => 'x' } ])->{status}, 400, 'an unknown action');
is($emulator->post('/control/seed', \'x')->{status}, 400, 'what is not JSON');
is($emulator->get('/control/nothing')->{status}, 404, 'an unknown endpoint');

done_testing();
