# Copyright (c) 2026, the iterable_sync developers

# Random numbers that depend on nothing but what they were made from: the same
# seed, round and session throw the same whoever throws beside them.

package Dice;

use strict;
use warnings;

use Digest::MD5 qw(md5);

sub new
{
	my ($class, @from) = @_;

	return bless { from => join(':', @from), thrown => 0 }, $class;
}

# A number from $least to $most.
sub between
{
	my ($self, $least, $most) = @_;
	my $number = unpack('N', md5("$self->{from}:" . $self->{thrown}++));

	return $least + $number % ($most - $least + 1);
}

# True in so many of a hundred cases.
sub chance
{
	my ($self, $percent) = @_;

	return $self->between(1, 100) <= $percent;
}

# One of a list.
sub one_of
{
	my ($self, @list) = @_;

	return $list[ $self->between(0, $#list) ];
}

# A key of a hash of weights.
sub weighted
{
	my ($self, %weight) = @_;
	my $sum = 0;
	my $at;

	$sum += $_ foreach values %weight;
	$at = $self->between(1, $sum);
	foreach my $name (sort keys %weight)
	{
		$at -= $weight{$name};
		return $name if $at <= 0;
	}
	die 'no weights';
}

1;
