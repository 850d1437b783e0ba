# Copyright (c) 2026, the iterable_sync developers

=pod

=head1 NAME

IterableSync::Test - what the TAP tests of iterable_sync share

=head1 SYNOPSIS

  use FindBin;
  use lib $FindBin::Bin;
  use IterableSync::Test;

  my $emulator = start_emulator(projectType => 'hybrid');
  my $node = start_cluster('main', conf => "work_mem = '8MB'\n");
  create_connection($node, 'prod', $emulator, users_rate => 100);

  $emulator->seed({ email => 'ann@example.com', dataFields => { n => 1 } });
  $emulator->script({ path => '/api/users/', action => 'hang', times => 0 });
  is($emulator->stats->{users}, 1, 'one user');
  wait_until(sub { $emulator->stats->{events} == 3 }, 'three events arrive');

  log_lacks($node, $emulator->key, 'the key is not logged');
  done_testing();

=head1 DESCRIPTION

Loads Test::More and PostgreSQL::Test::Cluster and ::Utils.  Run it under
prove as PostgreSQL's own TAP tests are ("make prove_installcheck"), not as
root, with the emulator's binary in the environment variable
ITERABLE_EMULATOR; without it every test of the file is skipped.

Functions, all exported:

=over

=item start_emulator(%settings)

Start an emulator on a free port and set it up; settings are those of its
/control/config (projectType, usersRate, latencyMs, ...).  Unless they say
otherwise, it knows one key, whose name begins with "canary", and keeps the
bodies of requests.  It ends with the test.  Returns an IterableSync::Emulator.

=item start_cluster($name, %options)

A started PostgreSQL::Test::Cluster with the extension in the database
postgres, permitted to use an emulator.  Options: preload => 0 leaves the
library out of shared_preload_libraries (and so has no workers), conf => text
for postgresql.conf, extension => 0 does not create the extension.

=item create_connection($node, $name, $emulator, %options)

A connection to an emulator (of its project type), by plain DDL, in the
database postgres unless the option dbname names another.  Other options are
server options (users_rate, request_timeout, base_url, ...) or key, or
key_file instead of it.

=item sql_error($node, $sql, $dbname)

Run a statement that must fail in a session of its own; returns
"SQLSTATE: message" followed by detail and hint lines.  Returns '' (and so
fails whatever is expected) if it succeeds.

=item wait_until($code, $what, $seconds)

Test (a Test::More result) that the code returns something true before the
time is up, by default PostgreSQL::Test::Utils::timeout_default.

=item synced($node, $sync, $what, $failures)

Test that everything of a sync that is committed now is dealt with before the
time is up, and that this many failures stand then, by default none.

=item log_of($node)

Text of the server's log.

=item log_lacks($node, $string, $what)

Test that the string is not in the server's log.

=back

Methods of an emulator:

=over

=item url, port, key, project_type

Where it is, and the first key that it knows.

=item seed(@users), script(@steps), end_script(), config(\%settings), reset(\%settings), release()

Its control calls; see its README.  reset keeps the key and project type it
was started with.  seed takes users as objects, or one object with the member
pgbench.

=item stats(), requests($since), users(), events()

What it has: stats as one hash, the others as lists of hashes.  requests
leaves out those up to number $since.

=item get($path), post($path, $data)

Any control call; answers are decoded, also as a list where a line is an
object each.

=item stop(), start()

As if Iterable went away: the port is closed, and later opened again by an
emulator that has forgotten everything but the settings it was started with.

=back

=cut

package IterableSync::Test;

use strict;
use warnings;

use Exporter 'import';
use Time::HiRes qw(time usleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = (
	qw(start_emulator start_cluster create_connection sql_error wait_until
	  synced log_of log_lacks),
	@Test::More::EXPORT,
	@PostgreSQL::Test::Utils::EXPORT);

sub start_emulator
{
	my (%settings) = @_;

	return IterableSync::Emulator->new(%settings);
}

sub start_cluster
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $preload = $options{preload} // 1;
	my $extension = $options{extension} // 1;

	# whatever the locale of the machine is
	$node->init(extra => [ '--encoding', 'UTF8' ]);
	$node->append_conf('postgresql.conf',
		"iterable_sync.allow_insecure_base_url = on\n");
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'iterable_sync'\n")
	  if $preload;
	$node->append_conf('postgresql.conf', $options{conf})
	  if defined $options{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION iterable_sync')
	  if $extension;
	return $node;
}

sub quote
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

sub create_connection
{
	my ($node, $name, $emulator, %options) = @_;
	my $dbname = delete $options{dbname} // 'postgres';
	my $key_file = delete $options{key_file};
	my $key = delete $options{key} // $emulator->key;
	my %server = (
		data_center => 'us',
		project_type => $emulator->project_type,
		base_url => $emulator->url,
		%options);
	my $server_options =
	  join(', ', map { "$_ " . quote($server{$_}) } sort keys %server);
	my $key_option =
	  defined $key_file
	  ? 'api_key_file ' . quote($key_file)
	  : 'api_key ' . quote($key);

	# Kept out of the log, so that a test can ask whether anything else puts the
	# key there.
	$node->safe_psql($dbname, qq{
		SET log_statement = 'none';
		SET log_min_error_statement = 'panic';
		CREATE SERVER "$name" FOREIGN DATA WRAPPER iterable OPTIONS ($server_options);
		CREATE USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS ($key_option);
	});
	return;
}

sub sql_error
{
	my ($node, $sql, $dbname) = @_;
	my ($rc, $stdout, $stderr) = $node->psql(
		$dbname // 'postgres', $sql,
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	my @lines;

	return '' if $rc == 0;
	foreach my $line (split /\n/, $stderr)
	{
		next if $line =~ /^(NOTICE|WARNING|LOCATION|LINE \d)/;
		$line =~ s/^(psql:\S+ )?(ERROR|FATAL):\s+//;
		push @lines, $line;
	}
	return join("\n", @lines);
}

sub wait_until
{
	my ($code, $what, $seconds) = @_;
	my $end = time() + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	while (time() < $end)
	{
		return pass($what) if $code->();
		usleep(50_000);
	}
	return fail("$what (waited in vain)");
}

sub synced
{
	my ($node, $sync, $what, $failures) = @_;
	my $timeout = $PostgreSQL::Test::Utils::timeout_default;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(
		$node->safe_psql('postgres',
			"SELECT done, failures, reason FROM iterable_wait('$sync', '$timeout s')"),
		't|' . ($failures // 0) . '|',
		$what // "$sync has sent everything");
}

sub log_of
{
	my ($node) = @_;

	return slurp_file($node->logfile);
}

sub log_lacks
{
	my ($node, $string, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok(index(log_of($node), $string) < 0, $what);
}

package IterableSync::Emulator;

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time usleep);

use PostgreSQL::Test::Utils ();
use Test::More;

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my @running;
my $count = 0;

sub new
{
	my ($class, %settings) = @_;
	my $self = bless {
		settings => {
			projectType => 'email',
			apiKeys => [ 'canary' . sprintf('%08x', rand(2**32)) ],
			recordBodies => JSON::PP::true,
			%settings
		},
		http => HTTP::Tiny->new(timeout => 30),
		number => ++$count,
		port => 0
	}, $class;

	plan skip_all => 'ITERABLE_EMULATOR is not set'
	  if !defined $ENV{ITERABLE_EMULATOR};
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/emulator_$$" . "_$self->{number}";
	my $port_file = "$base.port";
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;
	my $pid;

	unlink $port_file;
	$pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$base.log");
		open(STDERR, '>&', \*STDOUT);
		exec($ENV{ITERABLE_EMULATOR}, '--port', $self->{port},
			'--port-file', $port_file, '--stay-with-parent')
		  or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$self->{owner} = $$;
	push @running, $self;

	while (!-s $port_file)
	{
		die "the emulator did not start, see $base.log"
		  if time() > $end || waitpid($pid, WNOHANG) == $pid;
		usleep(10_000);
	}
	$self->{port} = PostgreSQL::Test::Utils::slurp_file($port_file) + 0;
	$self->reset;
	return;
}

sub stop
{
	my ($self) = @_;

	return if !defined $self->{pid} || $self->{owner} != $$;
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	@running = grep { $_ != $self } @running;
	return;
}

sub url { return "http://127.0.0.1:$_[0]->{port}"; }
sub port { return $_[0]->{port}; }
sub key { return $_[0]->{settings}{apiKeys}[0]; }
sub project_type { return $_[0]->{settings}{projectType}; }

sub call
{
	my ($self, $method, $path, $content) = @_;
	my $answer = $self->{http}->request(
		$method,
		$self->url . $path,
		{
			headers => { 'Content-Type' => 'application/json' },
			defined $content ? (content => $content) : ()
		});

	die "$method $path: $answer->{status} $answer->{content}"
	  if !$answer->{success};
	return [ map { $json->decode($_) } split /\n/, $answer->{content} ]
	  if ($answer->{headers}{'content-type'} // '') =~ /ndjson/;
	return $json->decode($answer->{content});
}

sub get
{
	my ($self, $path) = @_;

	return $self->call('GET', $path);
}

sub post
{
	my ($self, $path, $data) = @_;

	return $self->call('POST', $path, $json->encode($data // {}));
}

sub config { return $_[0]->post('/control/config', $_[1]); }
sub end_script { return $_[0]->call('DELETE', '/control/script'); }
sub release { return $_[0]->post('/control/release'); }
sub stats { return $_[0]->get('/control/stats'); }
sub users { return @{ $_[0]->get('/control/users') }; }
sub events { return @{ $_[0]->get('/control/events') }; }

sub reset
{
	my ($self, $settings) = @_;

	return $self->post('/control/reset',
		{ %{ $self->{settings} }, %{ $settings // {} } });
}

sub script
{
	my ($self, @steps) = @_;

	return $self->post('/control/script', \@steps);
}

sub seed
{
	my ($self, @users) = @_;

	return $self->post('/control/seed', $users[0])
	  if @users == 1 && exists $users[0]{pgbench};
	return $self->post('/control/seed', { users => \@users });
}

sub requests
{
	my ($self, $since) = @_;

	return @{ $self->get('/control/requests?since=' . ($since // 0)) };
}

END
{
	# Neither a failed test nor a forked child may change the exit status.
	my $status = $?;

	$_->stop foreach my @all = @running;
	$? = $status;
}

1;
