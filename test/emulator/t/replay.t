# Replays the pairs of requests and answers in fixtures/.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Emulator;

my $emulator = Emulator->start;
my $pairs = 0;

# "@repeat:x:513" stands for a long string
sub expand
{
	my ($data) = @_;
	return { map { $_ => expand($data->{$_}) } keys %$data } if ref $data eq 'HASH';
	return [ map { expand($_) } @$data ] if ref $data eq 'ARRAY';
	return $1 x $2 if defined $data && !ref $data && $data =~ /^\@repeat:(.):(\d+)$/;
	return $data;
}

sub compare_answer
{
	my ($name, $response, $expected) = @_;
	my @wrong;
	my $type = $response->{headers}{'content-type'} // '';

	push @wrong, "status is $response->{status}, not $expected->{status}"
	  if $response->{status} != $expected->{status};
	push @wrong, "content type is $type"
	  if $expected->{contentType} && index($type, $expected->{contentType}) != 0;
	push @wrong, "text lacks $expected->{text}"
	  if $expected->{text} && index($response->{content}, $expected->{text}) < 0;
	push @wrong, Emulator::difference($response->{data}, $expected->{body}) // ()
	  if $expected->{body};
	push @wrong, "is $response->{content}"
	  if $expected->{exact}
	  && $Emulator::json->encode($response->{data}) ne $Emulator::json->encode($expected->{exact});
	for my $path (sort keys %{ $expected->{matches} // {} })
	{
		my $value = Emulator::value_at($response->{data}, $path);
		push @wrong, "$path is " . ($value // 'missing')
		  unless defined $value && $value =~ /$expected->{matches}{$path}/;
	}
	for my $path (@{ $expected->{absent} // [] })
	{
		push @wrong, "$path is there"
		  if defined Emulator::value_at($response->{data}, $path);
	}
	ok(!@wrong, $name) or diag(join("\n", @wrong, $response->{content}));
}

# the stored users or events, in any order but that of the expected ones
sub compare_stored
{
	my ($name, $what, $expected) = @_;
	my $stored = $emulator->lines($what);
	my @wrong;

	push @wrong, scalar(@$stored) . " $what, not " . scalar(@$expected)
	  if @$stored != @$expected;
	for my $i (0 .. $#$expected)
	{
		my %wanted = %{ $expected->[$i] };
		my $exactly = delete $wanted{exactly};
		my $found = Emulator::difference($stored->[$i], \%wanted, "${what}[$i]");

		push @wrong, $found if $found;
		push @wrong, "dataFields of ${what}[$i] are " . $Emulator::json->encode($stored->[$i]{dataFields})
		  if $exactly
		  && $Emulator::json->encode($stored->[$i]{dataFields} // {}) ne $Emulator::json->encode($wanted{dataFields});
	}
	ok(!@wrong, "$name: stored $what") or diag(join("\n", @wrong));
}

sub replay_case
{
	my ($case) = @_;
	my $number = 0;

	like($case->{source}, qr/^Iterable API facts \xc2?\xa7/, "$case->{name}: says where it is from");
	$emulator->reset(%{ $case->{config} // {} });
	$emulator->control('seed', $case->{seed}) if $case->{seed};
	for my $exchange (@{ $case->{exchanges} })
	{
		my $request = $exchange->{request};
		my $body = expand($request->{body});

		$body = \$request->{raw} if defined $request->{raw};
		if (ref $body eq 'SCALAR')
		{
			my $bytes = $$body;
			utf8::encode($bytes);
			$body = \$bytes;
		}
		my $response = $emulator->request($request->{method}, $request->{path}, $body, $request->{headers});
		$pairs++;
		compare_answer("$case->{name}: exchange " . ++$number, $response, $exchange->{answer});
	}
	for my $what (qw(users events))
	{
		compare_stored($case->{name}, $what, $case->{$what}) if $case->{$what};
	}
}

for my $path (sort glob("$FindBin::Bin/../fixtures/*.json"))
{
	open(my $file, '<:raw', $path) or die "$path: $!";
	my $fixture = $Emulator::json->decode(do { local $/; <$file> });
	close($file);
	note($fixture->{about});
	replay_case($_) for @{ $fixture->{cases} };
}
cmp_ok($pairs, '>=', 40, "$pairs pairs were replayed");

done_testing();
