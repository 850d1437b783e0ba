# Runs TAP tests, prints what failed and why, and last "TOTAL passed failed"
# over all assertions.  A file that dies, or runs no test, counts as a failure.
use strict;
use warnings;
use TAP::Harness;

my $jobs = shift @ARGV;
my $harness = TAP::Harness->new({
	jobs => $jobs,
	verbosity => -1,
	merge => 1,
	timer => 1,
	lib => [ split /:/, $ENV{PERL5LIB} // '' ],
});

# The diagnostics that follow a failed assertion, until the next good one; and
# the last lines of a file, should it die.
my %told;
$harness->callback(made_parser => sub {
	my ($parser, $job) = @_;
	my $name = $job->[1];
	my $failing = 0;
	my @last;
	$parser->callback(ALL => sub {
		my ($result) = @_;
		$failing = !$result->is_ok if $result->is_test;
		push @last, $result->as_string;
		shift @last if @last > 20;
		push @{ $told{$name} }, $result->as_string if $failing;
	});
	$parser->callback(EOF => sub {
		my ($p) = @_;
		$told{$name} = [@last] if $p->has_problems && !$told{$name};
	});
});

my $result = $harness->runtests(@ARGV);
my ($passed, $failed) = (0, 0);
for my $parser ($result->parsers)
{
	my $bad = $parser->failed;
	$passed += $parser->passed;
	$failed += $bad;
	$failed++ if !$bad && $parser->has_problems;
}
for my $name (sort keys %told)
{
	print "== $name\n";
	print "$_\n" for @{ $told{$name} };

	# PostgreSQL::Test::Utils sends what a test dies with to its own log.
	my ($test) = $name =~ m{([^/]+)\.pl$};
	for my $log (glob "$ENV{TESTLOGDIR}/regress_log_$test $ENV{TESTDIR}/tmp_check/log/regress_log_$test")
	{
		open my $file, '<', $log or next;
		my @lines = <$file>;
		print "-- end of the log of $test\n", @lines[($#lines > 30 ? -30 : 0) .. -1];
	}
}
print "TOTAL $passed $failed\n";
