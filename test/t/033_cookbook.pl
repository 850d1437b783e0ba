# Copyright (c) 2026, the iterable_sync developers

# doc/cookbook.md is true: its SQL runs as it stands there, from top to bottom,
# and what arrives at Iterable is the JSON that stands below it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use IterableSync::Document;

my $cookbook = document('doc/cookbook.md');
my @emulators = map { start_emulator(projectType => $_) } qw(email userid hybrid);
my $node = start_cluster('main', extension => 0);
my $json = JSON::PP->new->utf8->canonical->pretty->allow_nonref;

# Of the payloads that came to all emulators since this was called last: a text
# that is the same for the same payloads in whatever order.
my %seen;

sub arrived
{
	my @payloads;

	foreach my $emulator (@emulators)
	{
		foreach my $request ($emulator->requests($seen{ $emulator->port } // 0))
		{
			$seen{ $emulator->port } = $request->{n};
			next if $request->{method} ne 'POST';
			my $body = $json->decode($request->{body});
			push @payloads, @{ $body->{users} // $body->{events} };
		}
	}
	return @payloads;
}

# The id of an event that is a hash is not written out.
sub canonical
{
	my @payloads = map { {%$_} } @_;

	$_->{id} = 'a hash' foreach grep { ($_->{id} // '') =~ /^([0-9a-f]{64}|\.\.\.)$/ } @payloads;
	return join('', sort map { $json->encode($_) } @payloads);
}

sub expected
{
	my ($block) = @_;
	my $value = $json->decode($block->{text});

	return ref($value) eq 'ARRAY' ? @$value : $value;
}

# Recipes know nothing of each other's users; those of events are there before.
my @blocks = blocks($cookbook);
my %recipes;
my $section = '';
foreach my $block (@blocks)
{
	my $name = $block->{section} || 'above the recipes';
	my ($rc, $stdout, $stderr);

	if ($name ne $section)
	{
		my @known = map { expected($_) } grep { $_->{language} eq 'json' && $_->{section} eq $block->{section} } @blocks;

		$section = $name;
		foreach my $emulator (@emulators)
		{
			$emulator->reset;
			$emulator->seed(map {
				my $event = $_;
				+{ map { $_ => $event->{$_} } grep { exists $event->{$_} } qw(email userId) }
			} grep { exists $_->{eventName} } @known);
		}
		%seen = ();
	}

	if ($block->{language} eq 'sql')
	{
		my ($sql) = with_emulators($block->{text}, @emulators);

		$recipes{$name}{syncs}++ if $sql =~ /iterable_(create|copy)_sync\(/;
		($rc, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_stop => 1);
		is("$rc $stderr", '0 ', "$name: the SQL runs");
		next;
	}

	my $timeout = $PostgreSQL::Test::Utils::timeout_default;
	is( $node->safe_psql('postgres', qq{
		SELECT s.name, w.* FROM iterable.sync s, iterable_wait(s.name, '$timeout s') w
		WHERE s.enabled AND (NOT w.done OR w.failures > 0)}),
		'', "$name: everything is sent");
	is(canonical(arrived()), canonical(expected($block)), "$name: what arrives");
	$recipes{$name}{payloads}++;
}

delete $recipes{'above the recipes'};
is(scalar(grep { $_->{syncs} && $_->{payloads} } values %recipes), 11, 'there are eleven recipes');
is(scalar(my @headings = $cookbook =~ /^## /mg), 11, 'and nothing else');
log_lacks($node, $_->key, 'a key is not in the log') foreach @emulators;
done_testing();
