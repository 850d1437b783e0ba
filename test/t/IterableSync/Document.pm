# Copyright (c) 2026, the iterable_sync developers

=pod

=head1 NAME

IterableSync::Document - what is written in Markdown, as it can be run

=head1 FUNCTIONS

All exported:

=over

=item document($path)

Text of a document of the tree.

=item blocks($text)

The blocks of SQL and JSON in a text, in their order: a list of hashes with the
members section (the heading of the second level above it), language (sql or
json) and text.

=item with_emulators($sql, @emulators)

The SQL, but with connections to emulators: each that it makes by
iterable_create_connection() with a file in /etc/iterable goes to the emulator
of its project type, by a file that holds a key of that.  Returns the SQL and
the number of connections in it.

=back

=cut

package IterableSync::Document;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;

use PostgreSQL::Test::Utils;

our @EXPORT = qw(document blocks with_emulators);

my $tree = dirname(abs_path(__FILE__)) . '/../../..';

sub document
{
	my ($path) = @_;

	return slurp_file("$tree/$path");
}

sub blocks
{
	my ($text) = @_;
	my $section = '';
	my @blocks;

	while ($text =~ /^(?:## ([^\n]*)|```(sql|json)\n(.*?)^```)$/msg)
	{
		$section = $1, next if defined $1;
		push @blocks, { section => $section, language => $2, text => $3 };
	}
	return @blocks;
}

sub with_emulators
{
	my ($sql, @emulators) = @_;
	my %emulators = map { $_->project_type => $_ } @emulators;
	my $n = 0;

	$sql =~ s{^(SELECT iterable_create_connection\('(\w+)'[^;]*;\n)}{
		my ($create, $name) = ($1, $2);
		my ($type) = $create =~ /project_type => '(\w+)'/;
		my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.key";

		append_to_file($file, $emulators{$type}->key . "\n");
		chmod(0600, $file);
		$n++ if $create =~ s|/etc/iterable/\w+\.key|$file|;
		$create . "ALTER SERVER $name OPTIONS (ADD base_url '@{[ $emulators{$type}->url ]}');\n";
	}gem;
	return ($sql, $n);
}

1;
