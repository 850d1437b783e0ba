# Asks an emulator of Iterable; used by the benchmarks.
#
#   control URL METHOD PATH [JSON]   any control call; prints the answer
#   rows URL PATH-PREFIX             rows accepted so far
#   arrivals URL PATH-PREFIX         arrival of each request, its rows, status
#   keys URL PATH-PREFIX FIELD       arrival and dataFields.FIELD of each row
#                                    (recordBodies must be on)
#   pace URL PATH-PREFIX RATE SECONDS  share of the rate that was used
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP ();

my ($what, $url, @args) = @ARGV;
my $http = HTTP::Tiny->new(timeout => 60);
my $json = JSON::PP->new->utf8;

sub call
{
	my ($method, $path, $body) = @_;
	my $answer = $http->request($method, "$url/control/$path",
		defined $body
		? { content => $body, headers => { 'Content-Type' => 'application/json' } }
		: {});
	die "$path: $answer->{status} $answer->{content}\n" if !$answer->{success};
	return $answer->{content};
}

sub requests
{
	my ($prefix) = @_;
	return grep { index($_->{path}, $prefix) == 0 }
	  map { $json->decode($_) } split /\n/, call('GET', 'requests?since=0');
}

if ($what eq 'control')
{
	print call(@args), "\n";
}
elsif ($what eq 'rows')
{
	my $stats = $json->decode(call('GET', 'stats'));
	my $sum = 0;
	foreach my $path (keys %{ $stats->{requests} })
	{
		$sum += $stats->{requests}{$path}{accepted} if index($path, $args[0]) == 0;
	}
	print "$sum\n";
}
elsif ($what eq 'arrivals')
{
	printf "%.6f %d %s\n", $_->{at}, $_->{rows}, $_->{status} // '-'
	  foreach requests($args[0]);
}
elsif ($what eq 'keys')
{
	my ($prefix, $field) = @args;
	foreach my $request (requests($prefix))
	{
		next if !defined $request->{body};
		my $body = $json->decode($request->{body});
		printf "%.6f %s\n", $request->{at}, $_->{dataFields}{$field}
		  foreach grep { defined $_->{dataFields}{$field} }
		  @{ $body->{users} // $body->{events} };
	}
}
elsif ($what eq 'pace')
{
	# Requests leave in bursts of RATE, so whole bursts are counted: k of them
	# take k seconds at the limit, wherever they begin.
	my ($prefix, $rate, $seconds) = @args;
	my @at = sort { $a <=> $b } map { $_->{at} } requests($prefix);
	my ($stats) = $json->decode(call('GET', 'stats'));
	my ($most) = map { $stats->{maxPerSecond}{$_} }
	  grep { "/api/$_" eq $prefix } keys %{ $stats->{maxPerSecond} };
	@at = grep { $_ < $at[0] + $seconds } @at;
	my $bursts = int((@at - 1) / $rate);
	printf "%.4f %d %d\n", $bursts / ($at[ $bursts * $rate ] - $at[0]),
	  scalar(@at), $most // -1;
}
else
{
	die "what is \"$what\"?\n";
}
