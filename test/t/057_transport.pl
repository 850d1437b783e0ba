# Copyright (c) 2026, the iterable_sync developers

# Networks and servers that are broken in every way: nothing is lost, nobody
# else waits, the worker obeys, memory is bounded, and the key goes to nobody
# who has not shown a certificate.  Each scene has its own connection, table
# and sync, all of its name; all of them happen at once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use File::Copy qw(copy);
use IterableSync::Peer;
use IterableSync::Test;
use Time::HiRes qw(time usleep);

my $good = start_emulator(usersRate => 0);
my $dir = PostgreSQL::Test::Utils::tempdir();

system_or_bail('cc', '-shared', '-fPIC', '-o', "$dir/interposer.so",
	"$FindBin::Bin/interposer/interposer.c", '-ldl');

### Certificates

sub openssl
{
	my (@arguments) = @_;

	system("openssl @arguments >>$dir/openssl.log 2>&1") == 0
	  or BAIL_OUT("openssl @arguments failed, see $dir/openssl.log");
	return;
}

# A certificate for a name, by our authority unless the options say otherwise.
sub certify
{
	my ($file, $name, $options) = @_;

	openssl("req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $dir/$file.key -out $dir/$file.csr");
	append_to_file("$dir/$file.ext", "subjectAltName=DNS:$name");
	openssl("x509 -req -in $dir/$file.csr -out $dir/$file.pem -extfile $dir/$file.ext -sha256 $options");
	return;
}

foreach my $authority ('ca', 'stranger')
{
	openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$authority "
		  . "-keyout $dir/$authority.key -out $dir/$authority.pem");
}
my $signed = "-CA $dir/ca.pem -CAkey $dir/ca.key -CAcreateserial";
certify('right', 'localhost', "-days 2 $signed");
certify('name', 'elsewhere.test', "-days 2 $signed");
certify('chain', 'localhost', "-days 2 -CA $dir/stranger.pem -CAkey $dir/stranger.key -CAcreateserial");
# with a validity in the past, as only "ca" can make it in all versions
append_to_file("$dir/index", '');
append_to_file("$dir/serial", "77\n");
append_to_file("$dir/ca.conf", qq{
[ca]
default_ca = past
[past]
database = $dir/index
serial = $dir/serial
new_certs_dir = $dir
default_md = sha256
policy = any
[any]
commonName = supplied
});
openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $dir/expired.key -out $dir/expired.csr");
append_to_file("$dir/expired.ext", 'subjectAltName=DNS:localhost');
openssl("ca -batch -config $dir/ca.conf -cert $dir/ca.pem -keyfile $dir/ca.key -extfile $dir/expired.ext "
	  . "-startdate 20200101000000Z -enddate 20200201000000Z -in $dir/expired.csr -out $dir/expired.pem");

my @children;

# Start a program; it ends with the test, also if that is killed.
sub start_program
{
	my ($log, @command) = @_;
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', "$dir/$log.out");
		open(STDERR, '>', "$dir/$log.err");
		exec('setpriv', '--pdeathsig', 'KILL', @command) or POSIX::_exit(127);
	}
	push @children, $pid;
	return;
}

sub free_port
{
	return PostgreSQL::Test::Cluster::get_free_port();
}

# Something that speaks TLS and shows what it is told: nothing, it must be.
my %tls_port;
sub serve_tls
{
	my ($scene, $certificate, @options) = @_;

	$tls_port{$scene} = free_port();
	start_program($scene, 'openssl', 's_server', '-accept', $tls_port{$scene}, '-quiet',
		'-cert', "$dir/$certificate.pem", '-key', "$dir/$certificate.key", @options);
	return;
}

serve_tls('bad_chain', 'chain');
serve_tls('bad_name', 'name');
serve_tls('bad_date', 'expired');
serve_tls('bad_version', 'right', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0');

# HTTP/2, for the emulator
my $h2_port = free_port();
start_program('h2', '/usr/sbin/nghttpx', "--frontend=127.0.0.1,$h2_port", '--backend=127.0.0.1,' . $good->port,
	"--accesslog-file=$dir/h2.log", '--accesslog-format=$alpn $method', '--workers=1',
	'--conf=/dev/null', "$dir/right.key", "$dir/right.pem");

### Peers

# What the emulator answers to a request.
sub forward
{
	my ($request) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $good->port)
	  or die "could not connect: $!";
	my $answer = '';

	syswrite($socket, $request);
	while ($answer !~ /\r\n\r\n/ ||
		length($answer) < index($answer, "\r\n\r\n") + 4 + ($answer =~ /^Content-Length: (\d+)/mi ? $1 : 0))
	{
		sysread($socket, $answer, 65536, length($answer)) or last;
	}
	return $answer;
}

my $gzip_bomb = do
{
	require IO::Compress::Gzip;
	my $zeros = "\0" x (32 * 1024 * 1024);
	IO::Compress::Gzip::gzip(\$zeros => \my $packed);
	$packed;
};

my %peer = (
	# the connection is there, but whoever was at its other end is gone
	half_open => sub
	{
		my ($socket) = @_;

		syswrite($socket, forward(read_request($socket)));
		sleep(60);
	},
	unread => sub { sleep(60); },
	trickle => sub
	{
		my ($socket) = @_;

		read_request($socket);
		foreach my $byte (split //, answer('{' . ' ' x 1000 . '}'))
		{
			syswrite($socket, $byte);
			usleep(50_000);
		}
	},
	reset_at_once => sub { reset_connection($_[0]); },
	reset_in_request => sub { sysread($_[0], my $some, 10); reset_connection($_[0]); },
	reset_in_headers => sub
	{
		read_request($_[0]);
		syswrite($_[0], "HTTP/1.1 200 OK\r\nContent-");
		reset_connection($_[0]);
	},
	reset_in_body => sub
	{
		read_request($_[0]);
		syswrite($_[0], answer('{"successCount":1', 'Content-Length' => 1000));
		usleep(100_000);
		reset_connection($_[0]);
	},
	short => sub
	{
		read_request($_[0]);
		syswrite($_[0], answer('{"successCount":1}', 'Content-Length' => 1000));
	},
	chunks => sub
	{
		read_request($_[0]);
		syswrite($_[0], answer("no length\r\n", 'Content-Length' => undef, 'Transfer-Encoding' => 'chunked'));
	},
	no_http => sub { read_request($_[0]); syswrite($_[0], "220 mail.example.com ESMTP\r\n" x 100); },
	headers => sub
	{
		read_request($_[0]);
		syswrite($_[0], "HTTP/1.1 200 OK\r\n");
		while (syswrite($_[0], 'X-Header: ' . 'x' x 1000 . "\r\n")) { }
	},
	interim => sub
	{
		read_request($_[0]);
		while (syswrite($_[0], "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")) { }
	},
	endless => sub
	{
		read_request($_[0]);
		syswrite($_[0], answer('', 'Content-Length' => undef));
		while (syswrite($_[0], ' ' x 65536)) { }
	},
	bomb => sub
	{
		read_request($_[0]);
		syswrite($_[0], answer($gzip_bomb, 'Content-Encoding' => 'gzip'));
	},
	# kept connections are closed just when they are used again
	reuse => sub
	{
		syswrite($_[0], forward(read_request($_[0])));
		sysread($_[0], my $some, 10);
		reset_connection($_[0]);
	});
my %server = map { $_ => IterableSync::Peer->new($peer{$_}) } keys %peer;

### The cluster

my $node;
{
	local $ENV{LD_PRELOAD} = "$dir/interposer.so";
	local $ENV{TEST_TRUSTED_CERTIFICATES} = "$dir/ca.pem";
	$node = start_cluster('transport', conf => "log_statement = none\n");
}

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub status
{
	return sql("SELECT state || ': ' || coalesce(reason, '') FROM iterable.sync_status WHERE sync = '$_[0]'");
}

sub scene
{
	my ($name, $url) = @_;

	create_connection($node, $name, $good, users_rate => 1000, request_timeout => '1s',
		connect_timeout => '1s', base_url => $url);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n text);
		SELECT iterable_create_sync('$name', '$name', '$name', 'user', 'id', 'email');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', 'updates_only')});
	return;
}

sub insert
{
	my ($name, $id) = @_;

	sql("INSERT INTO $name VALUES ($id, '$name$id\@example.com', 'x')");
	return;
}

my $flow = 0;
sub flows
{
	my ($what) = @_;
	my $started = time();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	insert('well', ++$flow);
	sql(q{SELECT * FROM iterable_wait('well')});
	cmp_ok(time() - $started, '<', 3, $what);
	return;
}

sub worker
{
	return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker'});
}

sub peak_memory_kb
{
	return slurp_file('/proc/' . worker() . '/status') =~ /^VmHWM:\s+(\d+)/m ? $1 : 0;
}

scene('well', $good->url);
scene($_, $server{$_}->url) foreach sort keys %server;
scene('hanging_resolver', 'http://hangs.test');
scene($_, "https://localhost:$tls_port{$_}") foreach sort keys %tls_port;
scene('h2', "https://localhost:$h2_port");
flows('all is well at first');
my $memory = peak_memory_kb();

### They break

my @broken = grep { !/^(half_open|reuse|bomb)$/ } sort(keys %server, keys %tls_port, 'hanging_resolver');
insert($_, 1) foreach @broken, 'half_open', 'reuse', 'bomb', 'h2';
sql(q{INSERT INTO unread SELECT i, 'unread' || i || '@example.com', repeat('x', 3000) FROM generate_series(2, 1000) i});
flows('others go on');

# Some hang for longer than they are broken: while they do, the worker obeys.
wait_until(sub { $server{unread}->connections > 0 }, 'a request is under way that nobody reads');
my $worker = worker();
my $started = time();
kill('TERM', $worker);
usleep(5_000) while kill(0, $worker) && time() < $started + 10;
cmp_ok(time() - $started, '<', 1, 'the worker obeys SIGTERM whatever the network does');
wait_until(sub { my $new = worker(); $new ne '' && $new ne $worker }, 'another worker comes');
flows('others go on');

my %reason = (
	hanging_resolver => qr/time(d )?out/i,
	unread => qr/timed out/,
	trickle => qr/timed out/,
	headers => qr/too large/,
	interim => qr/too large/,
	endless => qr/too large/,
	bad_chain => qr/certificate/,
	bad_name => qr/(certificate|name)/,
	bad_date => qr/certificate/,
	bad_version => qr/(SSL|TLS)/);
foreach my $name (@broken)
{
	my $reason = $reason{$name} // qr/no answer: ./;

	wait_until(sub { status($name) =~ /^failing: .*$reason/ }, "$name: the sync says what is the matter", 30)
	  or diag(status($name));
}
cmp_ok(peak_memory_kb() - $memory, '<', 64 * 1024, 'whatever they send, memory is bounded');
is(-s "$dir/$_.out", 0, "$_: nothing was sent") foreach sort keys %tls_port;
foreach my $name (sort keys %tls_port)
{
	like(sql("SELECT string_agg(ok::text, ' ') FROM iterable_test_connection('$name')"),
		qr/^true false/, "$name: a test of the connection tells it from the network");
}
wait_until(sub { sql(q{SELECT class FROM iterable.failure WHERE sync = 'bomb'}) eq 'unknown_outcome' },
	'bomb: an answer that is none, again and again, parks the row');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync <> 'bomb'}), '0', 'no other row is blamed for it');
flows('others go on');

### Connections that die between requests

synced($node, $_, "$_: the first request passes") foreach 'half_open', 'reuse';
insert($_, 2) foreach 'half_open', 'reuse';
synced($node, $_, "$_: so does the next, by another connection") foreach 'half_open', 'reuse';
cmp_ok($server{$_}->connections, '>=', 2, "$_: as the peer saw") foreach 'half_open', 'reuse';

### HTTP/2

synced($node, 'h2', 'h2: a row goes');
like(slurp_file("$dir/h2.log"), qr/^h2 POST$/m, 'by HTTP/2, where it is offered');
insert('h2', 2);
synced($node, 'h2', 'h2: and another by the same connection');

### All are mended: that is seen at once, however long they have failed

sql(qq{ALTER SERVER $_ OPTIONS (SET base_url '@{[ $good->url ]}')}) foreach @broken;
insert($_, 5000) foreach @broken;
synced($node, $_, "$_: mended, everything goes") foreach @broken;
sql(qq{ALTER SERVER bomb OPTIONS (SET base_url '@{[ $good->url ]}');
	SELECT iterable_retry_failures('bomb')});
synced($node, 'bomb', 'bomb: mended, it goes when told to');
my %there = map { $_->{email} => 1 } $good->users;
is(join(' ', grep { !$there{$_} } map { $_ . '1@example.com' } @broken, 'half_open', 'reuse', 'bomb', 'h2'), '',
	'all is there');
is((grep { /^unread/ } keys %there), 1001, 'all of it');

log_lacks($node, $good->key, 'the key is not in the log');
is(scalar(grep { /PANIC|TRAP|terminated by signal/ } split /\n/, log_of($node)), 0, 'nothing has crashed');
$node->stop('fast');
done_testing();

END
{
	my $status = $?;

	kill('KILL', @children) if @children;
	$? = $status;
}
