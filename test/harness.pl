# Runs TAP tests and prints, last, "TOTAL passed failed" over all assertions.
# A file that dies, or runs no test, counts as a failure.
use strict;
use warnings;
use TAP::Harness;

my $jobs = shift @ARGV;
my $harness = TAP::Harness->new({
	jobs => $jobs,
	verbosity => 0,
	merge => 1,
	failures => 1,
	lib => [ split /:/, $ENV{PERL5LIB} // '' ],
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
print "TOTAL $passed $failed\n";
