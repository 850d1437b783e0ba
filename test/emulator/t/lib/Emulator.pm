# Starts an emulator of its own, talks to it, and compares answers.

package Emulator;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use Time::HiRes qw(sleep time);

my $here = dirname(abs_path(__FILE__));
our $binary = $ENV{ITERABLE_EMULATOR} // "$here/../../iterable_emulator";
our $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub start
{
	my ($class, @options) = @_;
	my $dir = tempdir(CLEANUP => 1);
	my $self = bless { dir => $dir, port_file => "$dir/port" }, $class;

	$self->{pid} = fork() // die "fork: $!";
	if ($self->{pid} == 0)
	{
		open(STDOUT, '>', "$dir/out") or die;
		exec($binary, '--port', 0, '--port-file', $self->{port_file},
			'--stay-with-parent', @options)
		  or die "$binary: $!";
	}
	for (1 .. 500)
	{
		last if -e $self->{port_file};
		sleep 0.02;
	}
	open(my $file, '<', $self->{port_file}) or die "the emulator did not start";
	chomp($self->{port} = <$file>);
	close($file);
	$self->{url} = "http://127.0.0.1:$self->{port}";
	$self->{http} = HTTP::Tiny->new(timeout => 20);
	return $self;
}

# how long it took to exit, and its exit status
sub stop
{
	my ($self, $signal) = @_;
	my $begin = time;

	return unless $self->{pid};
	kill($signal // 'TERM', $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return (time - $begin, $?);
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	$self->stop if $self->{pid};
}

# body is Perl data, or raw text when it is a reference to a scalar
sub request
{
	my ($self, $method, $path, $body, $headers) = @_;
	my %options = (headers => { 'Api-Key' => 'test-key', %{ $headers // {} } });

	delete $options{headers}{$_}
	  for grep { !defined $options{headers}{$_} } keys %{ $options{headers} };
	if (defined $body)
	{
		$options{content} = ref $body eq 'SCALAR' ? $$body : $json->encode($body);
		$options{headers}{'Content-Type'} //= 'application/json';
	}
	my $response = $self->{http}->request($method, $self->{url} . $path, \%options);
	$response->{data} = eval { $json->decode($response->{content}) };
	return $response;
}

sub get { my ($self, $path) = @_; return $self->request('GET', $path); }
sub post { my ($self, $path, $body, $headers) = @_; return $self->request('POST', $path, $body, $headers); }

sub control
{
	my ($self, $what, $body) = @_;
	my $response = $self->request('POST', "/control/$what", $body // {});

	die "control/$what: $response->{status} $response->{content}"
	  unless $response->{status} == 200;
	return $response->{data};
}

# a clean emulator without limits, unless they are in the settings
sub reset
{
	my ($self, %settings) = @_;
	$self->control('reset',
		{ defaults => JSON::PP::true, usersRate => 0, eventsRate => 0,
			otherRates => JSON::PP::false, %settings });
}

sub stats { my ($self) = @_; return $self->get('/control/stats')->{data}; }

sub lines
{
	my ($self, $path) = @_;
	return [ map { $json->decode($_) } split /\n/, $self->get("/control/$path")->{content} ];
}

# sends a request over a connection of its own and does not wait
sub send_only
{
	my ($self, $path, $body) = @_;
	my $text = $json->encode($body);
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port})
	  or die "connect: $!";

	print $socket "POST $path HTTP/1.1\r\nHost: emulator\r\nApi-Key: test-key\r\n"
	  . "Content-Type: application/json\r\nContent-Length: " . length($text) . "\r\n\r\n$text";
	$socket->flush;
	return $socket;
}

# all that comes until the other side closes
sub read_all
{
	my ($socket) = @_;
	local $/;
	return scalar(<$socket>) // '';
}

# one answer, on a connection that stays open
sub read_answer
{
	my ($socket) = @_;
	my $text = '';

	while ($text !~ /\r\n\r\n/)
	{
		sysread($socket, $text, 65536, length $text) or return $text;
	}
	my ($length) = $text =~ /^Content-Length: (\d+)\r$/mi;
	my $whole = index($text, "\r\n\r\n") + 4 + $length;
	while (length $text < $whole)
	{
		sysread($socket, $text, 65536, length $text) or return $text;
	}
	return $text;
}

# where expected is not a part of got; nothing when it is
sub difference
{
	my ($got, $expected, $place) = @_;
	$place //= 'answer';

	if (ref $expected eq 'HASH')
	{
		return "$place is not an object" unless ref $got eq 'HASH';
		for my $key (sort keys %$expected)
		{
			return "$place.$key is missing" unless exists $got->{$key};
			my $found = difference($got->{$key}, $expected->{$key}, "$place.$key");
			return $found if $found;
		}
		return;
	}
	if (ref $expected eq 'ARRAY')
	{
		return "$place is not an array" unless ref $got eq 'ARRAY';
		return "$place has " . @$got . " items, not " . @$expected . ': ' . $json->encode($got)
		  unless @$got == @$expected;
		for my $i (0 .. $#$expected)
		{
			my $found = difference($got->[$i], $expected->[$i], "${place}[$i]");
			return $found if $found;
		}
		return;
	}
	my ($left, $right) = map { $json->encode($_) } ($got, $expected);
	return $left eq $right ? undef : "$place is $left, not $right";
}

# a value by its dotted path
sub value_at
{
	my ($data, $path) = @_;
	for my $name (split /\./, $path)
	{
		return undef unless ref $data eq 'HASH' && exists $data->{$name};
		$data = $data->{$name};
	}
	return $data;
}

1;
