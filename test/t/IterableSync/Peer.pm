# Copyright (c) 2026, the iterable_sync developers

=pod

=head1 NAME

IterableSync::Peer - servers that break the rules of TCP or HTTP

=head1 SYNOPSIS

  my $peer = IterableSync::Peer->new(sub { my ($socket, $peer) = @_; ... });
  my $url = $peer->url;
  is($peer->connections, 1);

=head1 DESCRIPTION

Each connection to a peer is given to the code in a process of its own, which
ends when the code returns.  All end with the test, also if that is killed.

Functions for such code, exported:

=over

=item read_request($socket)

Read one request with its body; returns its text, or nothing at the end.

=item answer($body, %headers)

The text of an answer with status 200.

=item reset_connection($socket)

Close it with a RST.

=back

=cut

package IterableSync::Peer;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER);

our @EXPORT = qw(read_request answer reset_connection);

my @running;

sub new
{
	my ($class, $code, %options) = @_;
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', Listen => 32, Proto => 'tcp', ReuseAddr => 1, Timeout => 1)
	  or die "could not listen: $!";
	pipe(my $read, my $write) or die "could not make a pipe: $!";
	my $self = bless { port => $listener->sockport, owner => $$, count => 0, read => $read }, $class;

	$read->blocking(0);
	$self->{pid} = fork() // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		setpgrp(0, 0);
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		while (getppid() == $self->{owner})
		{
			my $socket = $listener->accept // next;

			syswrite($write, 'c');
			my $child = fork() // POSIX::_exit(1);

			next if $child != 0;
			alarm(120);
			$socket->autoflush(1);
			eval { $code->($socket) };
			close($socket);
			POSIX::_exit(0);
		}
		POSIX::_exit(0);
	}
	close($write);
	push @running, $self;
	return $self;
}

sub port { return $_[0]->{port}; }
sub url { return "http://127.0.0.1:$_[0]->{port}"; }

# How many there have been.
sub connections
{
	my ($self) = @_;

	while (sysread($self->{read}, my $seen, 4096))
	{
		$self->{count} += length($seen);
	}
	return $self->{count};
}

sub stop
{
	my ($self) = @_;

	return if !defined $self->{pid} || $self->{owner} != $$;
	kill('KILL', -$self->{pid}, $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return;
}

sub read_request
{
	my ($socket) = @_;
	my $text = '';

	while ($text !~ /\r\n\r\n/)
	{
		sysread($socket, $text, 65536, length($text)) or return;
	}
	my ($head) = $text =~ /^(.*?\r\n\r\n)/s;
	my ($length) = $head =~ /^Content-Length: (\d+)/mi;
	while (length($text) < length($head) + ($length // 0))
	{
		sysread($socket, $text, 65536, length($text)) or return;
	}
	return $text;
}

sub answer
{
	my ($body, %headers) = @_;

	%headers = ('Content-Type' => 'application/json', 'Content-Length' => length($body), %headers);
	return "HTTP/1.1 200 OK\r\n"
	  . join('', map { defined $headers{$_} ? "$_: $headers{$_}\r\n" : '' } sort keys %headers)
	  . "\r\n$body";
}

sub reset_connection
{
	my ($socket) = @_;

	setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close($socket);
	return;
}

END
{
	my $status = $?;

	$_->stop foreach @running;
	$? = $status;
}

1;
