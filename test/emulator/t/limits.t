# Requests a second, sizes, latency.

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

# the documented limits are the defaults
$emulator->control('reset', { defaults => JSON::PP::true });
my $begin = time;
my @status = map { $emulator->post($users, $one)->{status} } 1 .. 8;
SKIP:
{
	skip('the machine is too slow', 1) if time - $begin > 0.9;
	is_deeply(\@status, [ (200) x 5, (429) x 3 ], 'five bulk updates a second');
}
my $refused = $emulator->post($users, $one);
SKIP:
{
	skip('the machine is too slow', 3) if time - $begin > 0.9;
	is($refused->{data}{code}, 'RateLimitExceeded', 'then they are refused');
	is($refused->{data}{msg}, "Exceeded rate limit for endpoint: $users, project: 1", 'with the endpoint');
	ok(!exists $refused->{headers}{'retry-after'}, 'without Retry-After');
}
is($emulator->lines('users')->[0]{writes}, scalar(grep { $_ == 200 } @status), 'what is refused is not applied');
is($emulator->stats->{maxPerSecond}{'users/bulkUpdate'}, 9, 'refused ones count as arrivals');
@status = map { $emulator->post($events, { events => [] })->{status} } 1 .. 10;
is_deeply(\@status, [ (200) x 10 ], 'ten of events, apart from those');
sleep 1.05;
is($emulator->post($users, $one)->{status}, 200, 'a second later there is room again');

# the window slides: no limit of calendar seconds would allow this
$emulator->reset(usersRate => 2);
@status = ();
$begin = time;
for (1 .. 5)
{
	push @status, $emulator->post($users, $one)->{status};
	sleep 0.4;
}
SKIP:
{
	skip('the machine is too slow', 1) if time - $begin > 2.2;
	is_deeply(\@status, [ 200, 200, 429, 200, 200 ], 'a sliding window');
}
cmp_ok($emulator->stats->{maxPerSecond}{'users/bulkUpdate'}, '<=', 3, 'and its arrivals');

# other endpoints have theirs
$emulator->reset(otherRates => JSON::PP::true);
@status = map { $emulator->get('/api/users/getFields')->{status} } 1 .. 4;
is($status[3], 429, 'three getFields a second');

# a script may add the header that Iterable does not send
$emulator->reset;
$emulator->control('script', [ { status => 429, headers => { 'Retry-After' => '1' } } ]);
is($emulator->post($users, $one)->{headers}{'retry-after'}, 1, 'Retry-After by order');

# sizes
sub padded
{
	my ($size) = @_;
	my $body = '{"users":[{"email":"a@example.com"}]}';
	return $body . (' ' x ($size - length($body)));
}
my $body = padded(4 * 1024 * 1024);
is($emulator->post($users, \$body)->{status}, 200, '4 MB are taken');
$body .= ' ';
my $response = $emulator->post($users, \$body);
is($response->{status}, 413, 'a byte more is not');
is($response->{data}{code}, 'BatchTooLarge', 'with its code');
$body = padded(20 * 1024 * 1024);
is($emulator->post($events, \$body)->{status}, 413, 'nor is much more');
is($emulator->lines('requests')->[-1]{bytes}, 20 * 1024 * 1024, 'but its size is recorded');

# latency
$emulator->reset(latencyMs => 300);
$begin = time;
my @sockets = map { $emulator->send_only($events, { events => [] }) } 1 .. 20;
Emulator::read_answer($_) for @sockets;
my $took = time - $begin;
cmp_ok($took, '>=', 0.29, 'every answer is late');
cmp_ok($took, '<', 2, 'but they do not wait for one another');
is($emulator->stats->{maxInFlight}, 20, 'all in flight together');

done_testing();
