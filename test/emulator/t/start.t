# Options, starting and stopping.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use File::Temp qw(tempdir);
use Time::HiRes qw(sleep);
use Emulator;

my $users = '/api/users/bulkUpdate';
my $emulator = Emulator->start('--api-key', 'one', '--api-key', 'two',
	'--project-type', 'hybrid', '--users-rate', 0, '--events-rate', 0);

open(my $out, '<', "$emulator->{dir}/out") or die;
is(scalar(<$out>), "listening on $emulator->{port}\n", 'says where it listens');
is($emulator->post($users, { users => [ { userId => 'u' } ] })->{status}, 401, 'not with the default key');
for my $key ('one', 'two')
{
	is($emulator->post($users, { users => [ { userId => 'u' } ] }, { 'Api-Key' => $key })->{status}, 200, "with $key");
}
is($emulator->lines('users')->[0]{userId}, 'u', 'the type of project');
is($emulator->post($users, { users => [ { userId => 'u' } ] }, { 'Api-Key' => 'one' })->{status}, 200, 'no limit') for 1 .. 6;

for my $signal ('TERM', 'INT')
{
	$emulator = Emulator->start;
	$emulator->control('script', [ { action => 'hang', times => 0 } ]);
	my @sockets = map { $emulator->send_only($users, { users => [] }) } 1 .. 3;
	sleep 0.2;
	my ($took, $status) = $emulator->stop($signal);
	cmp_ok($took, '<', 1, "SIG$signal ends it, whoever hangs");
	is($status, 0, 'properly');
}

# a parent that goes away takes it along
my $dir = tempdir(CLEANUP => 1);
my $parent = fork() // die;
if ($parent == 0)
{
	my $child = fork() // die;
	if ($child == 0)
	{
		open(STDOUT, '>', '/dev/null') or die;
		exec($Emulator::binary, '--port-file', "$dir/port", '--stay-with-parent') or die;
	}
	open(my $file, '>', "$dir/pid") or die;
	print $file $child;
	close($file);
	for (1 .. 250) { last if -e "$dir/port"; sleep 0.02; }
	require POSIX;
	POSIX::_exit(0);
}
waitpid($parent, 0);
open(my $file, '<', "$dir/pid") or die;
my $child = <$file>;
my $gone;
for (1 .. 100)
{
	open(my $stat, '<', "/proc/$child/stat") or do { $gone = 1; last };
	my $line = <$stat>;
	if (!defined $line || $line =~ /\) [ZX] /) { $gone = 1; last }
	sleep 0.02;
}
ok($gone, '--stay-with-parent');

is(system("$Emulator::binary --no-such-option >/dev/null 2>&1") >> 8, 2, 'an unknown option');
is(system("$Emulator::binary --project-type x >/dev/null 2>&1") >> 8, 1, 'a wrong value');
like(`$Emulator::binary --help`, qr/--stay-with-parent/, 'help');

SKIP:
{
	skip('needs openssl and curl', 2)
	  unless grep({ -x "$_/openssl" } split /:/, $ENV{PATH}) && grep({ -x "$_/curl" } split /:/, $ENV{PATH});
	system("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
		. "-keyout $dir/key.pem -out $dir/cert.pem >/dev/null 2>&1") == 0 or die 'openssl';
	$emulator = Emulator->start('--tls-cert', "$dir/cert.pem", '--tls-key', "$dir/key.pem");
	my $answer = `curl -sS --cacert $dir/cert.pem -H 'Api-Key: test-key' -d '{"events":[]}' https://127.0.0.1:$emulator->{port}/api/events/trackBulk`;
	like($answer, qr/^\{"successCount":0/, 'TLS');
	$answer = `curl -sS http://127.0.0.1:$emulator->{port}/ 2>&1`;
	unlike($answer, qr/Action/, 'and nothing else then');
}

done_testing();
