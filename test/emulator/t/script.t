# Faults by order.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(sleep time);
use Emulator;

my $emulator = Emulator->start;
my $users = '/api/users/bulkUpdate';
my $events = '/api/events/trackBulk';
my $one = { users => [ { email => 'a@example.com' } ] };

sub script
{
	$emulator->reset;
	$emulator->control('script', [@_]);
}

sub stored { return $emulator->stats->{users}; }

script({ status => 503, headers => { 'Retry-After' => '2' }, body => 'try later' });
my $response = $emulator->post($users, $one);
is($response->{status}, 503, 'answer: the status');
is($response->{headers}{'retry-after'}, 2, 'the headers');
is($response->{content}, 'try later', 'the body');
is(stored(), 0, 'nothing applied');
is($emulator->post($users, $one)->{status}, 200, 'once');
is($emulator->lines('requests')->[0]{action}, 'answer', 'and on record');

script({ path => '/api/events', status => 500, times => 2 }, { path => $users, status => 429, body => { code => 'RateLimitExceeded' } });
is_deeply([ map { $emulator->post($_, $_ eq $users ? $one : { events => [] })->{status} } $users, $events, $users, $events, $events ],
	[ 429, 500, 200, 500, 200 ], 'steps are for paths, in order, and used up');
is($emulator->stats->{scriptLeft}, 0, 'none are left');

script({ status => 502, times => 0 });
is($emulator->post($users, $one)->{status}, 502, 'for ever') for 1 .. 3;
is($emulator->request('DELETE', '/control/script')->{status}, 200, 'or until it is deleted');
is($emulator->post($users, $one)->{status}, 200, 'then nothing is left of it');
is(stored(), 1, 'and users stay');

script({ action => 'drop' });
is($emulator->post($users, $one)->{status}, 599, 'drop: no answer');
is(stored(), 0, 'nothing applied');
is($emulator->stats->{requests}{$users}{unanswered}, 1, 'counted as unanswered');
ok(!defined $emulator->lines('requests')->[0]{status}, 'without a status on record');

script({ action => 'apply_then_drop' });
is($emulator->post($users, $one)->{status}, 599, 'apply_then_drop: no answer');
is(stored(), 1, 'but applied');
is($emulator->stats->{requests}{$users}{accepted}, 1, 'and counted');

script({ action => 'apply_then_answer', status => 504, body => 'timed out' });
$response = $emulator->post($users, $one);
is_deeply([ @$response{qw(status content)} ], [ 504, 'timed out' ], 'apply_then_answer: the answer as ordered');
is(stored(), 1, 'and applied');

for my $action ('hang', 'apply_then_hang')
{
	script({ action => $action });
	my $socket = $emulator->send_only($users, $one);
	sleep 0.2;
	is($emulator->stats->{inFlight}, 1, "$action: in flight");
	is(stored(), $action eq 'hang' ? 0 : 1, 'applied or not');
	is($emulator->control('release')->{released}, 1, 'released');
	is(Emulator::read_all($socket), '', 'its connection is closed without an answer');
	is($emulator->stats->{inFlight}, 0, 'not in flight any more');
}

script({ action => 'hang' });
my $socket = $emulator->send_only($users, $one);
sleep 0.1;
close($socket);
sleep 0.2;
is($emulator->stats->{inFlight}, 0, 'hang: ends when the client goes away');
is($emulator->control('release')->{released}, 0, 'and needs no release');

script({ action => 'truncate' });
$socket = $emulator->send_only($users, $one);
my $text = Emulator::read_all($socket);
my ($length) = $text =~ /^Content-Length: (\d+)\r$/mi;
my ($head, $body) = split /\r\n\r\n/, $text, 2;
is(length($body), int($length / 2), 'truncate: half of the body');
like($head, qr{^HTTP/1\.1 200 }, 'of a good answer');
is(stored(), 1, 'applied');

script({ action => 'garbage' });
$response = $emulator->post($users, $one);
is($response->{status}, 200, 'garbage: a good status');
ok(!defined $response->{data}, 'but no JSON');
is(stored(), 1, 'applied');

script({ action => 'slow', delayMs => 2 });
my $begin = time;
$response = $emulator->post($users, $one);
is($response->{data}{successCount}, 1, 'slow: the right answer in the end');
cmp_ok(time - $begin, '>', 0.002 * length($response->{content}), 'byte after byte');
is($emulator->lines('requests')->[0]{status}, 200, 'recorded as answered');

script({ action => 'slow', delayMs => 50 });
$socket = $emulator->send_only($users, $one);
sleep 0.2;
close($socket);
sleep 0.3;
is($emulator->stats->{inFlight}, 0, 'slow: ends when the client goes away');

script({ action => 'close' });
$response = $emulator->post($users, $one);
is($response->{headers}{connection}, 'close', 'close: the connection is not kept');
is($response->{data}{successCount}, 1, 'after the right answer');

script({ action => 'apply', delayMs => 300 }, { status => 500, delayMs => 300 }, { action => 'drop', delayMs => 300 });
for my $expected (200, 500, 599)
{
	$begin = time;
	is($emulator->post($users, $one)->{status}, $expected, "late: $expected");
	cmp_ok(time - $begin, '>=', 0.29, 'by the delay');
}

script({ failRows => { emails => ['B@example.com'], userIds => ['u9'], list => 'invalidDataEmails' } });
$response = $emulator->post($users, { users => [ { email => 'a@example.com' }, { email => 'b@example.com' }, { email => 'c@example.com', userId => 'u9' } ] });
is_deeply($response->{data}{failedUpdates}{invalidDataEmails}, [ 'b@example.com', 'c@example.com' ], 'failRows: in the list');
is_deeply([ @{ $response->{data} }{qw(successCount failCount)} ], [ 1, 2 ], 'and counted');
is($emulator->post($users, { users => [ { email => 'b@example.com' } ] })->{data}{successCount}, 1, 'for one request');
$emulator->control('script', [ { failRows => { emails => ['a@example.com'], list => 'notFoundEmails' } }, { failRows => { emails => ['a@example.com'], list => '' } } ]);
for my $expected (['a@example.com'], [])
{
	$response = $emulator->post($events, { events => [ { email => 'a@example.com', eventName => 'e' } ] });
	is_deeply($response->{data}{failedUpdates}{notFoundEmails}, $expected, 'failRows for events');
	is($response->{data}{failCount}, 1, 'counted, in a list or in none');
}

done_testing();
