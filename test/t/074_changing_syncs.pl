# Copyright (c) 2026, the iterable_sync developers

# Syncs are created, changed and dropped while others write: no writer fails,
# and every change that commits after a sync was enabled, or a mapping was
# added, is sent, although nothing is compared.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster('busy', conf => "fsync = off\ndeadlock_timeout = 10ms\n");

create_connection($node, 'prod', $emulator, users_rate => 1000);
$node->safe_psql('postgres', q{
	CREATE TABLE item (id int PRIMARY KEY, email text, a int, b int, a_in xid8, b_in xid8) PARTITION BY RANGE (id);
	CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (1) TO (500);
	CREATE TABLE item_2 PARTITION OF item DEFAULT;
	INSERT INTO item SELECT i, 'item' || i || '@example.com', 0, 0 FROM generate_series(1, 1000) i});

my $dir = PostgreSQL::Test::Utils::tempdir;
PostgreSQL::Test::Utils::append_to_file("$dir/write.sql", q{
\set first random(1, 1000)
\set second random(1, 1000)
\set third random(1, 1000)
BEGIN;
UPDATE item SET a = a + 1, a_in = pg_current_xact_id() WHERE id = least(:first, :second);
UPDATE item SET b = b + 1, b_in = pg_current_xact_id() WHERE id = greatest(:first, :second);
COMMIT;
UPDATE item SET a = a + 1, b = b + 1, a_in = pg_current_xact_id(), b_in = pg_current_xact_id() WHERE id = :third;
});
my $output = '';
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '3', '-T', '600', '-R', '400', '-f', "$dir/write.sql",
		'-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$output, '2>&1');
wait_until(sub { $node->safe_psql('postgres', 'SELECT count(*) > 100 FROM item WHERE a > 0') eq 't' }, 'there are writers');

# DDL gives up when a lock is not to be had soon, and says so.
sub patiently
{
	my ($sql) = @_;

	foreach (1 .. 20)
	{
		my $error = '';

		return if $node->psql('postgres', $sql, stderr => \$error, on_error_stop => 1) == 0;
		die $error unless $error =~ /lock timeout/;
	}
	die "no lock for $sql";
}

sub snapshot { return $node->safe_psql('postgres', 'SELECT pg_current_snapshot()'); }

my %since;
foreach my $round (1 .. 3)
{
	my $sync = "items$round";

	patiently(qq{SELECT iterable_create_sync('$sync', 'prod', 'item', 'user', 'id', 'email');
		SELECT iterable_add_mapping('$sync', 'a$round', column_name => 'a')});
	patiently(qq{SELECT iterable_enable_sync('$sync', apply => 'updates_only')});
	$since{"a$round"} = snapshot();
	patiently(qq{SELECT iterable_add_mapping('$sync', 'b$round', column_name => 'b', apply => 'updates_only')});
	$since{"b$round"} = snapshot();

	# the last sync but one goes; others keep the triggers, or put them again
	patiently(q{SELECT iterable_drop_sync('items1')}) if $round == 1;
	patiently(q{SELECT iterable_disable_sync('items2')}) if $round == 3;
}
sleep(1);
patiently(q{SELECT iterable_enable_sync('items2')});
sleep(1);
$writers->signal('TERM');
$writers->finish;
unlike($output, qr/ERROR|aborted/, 'no writer has failed');
synced($node, $_, "$_: all is sent") foreach qw(items2 items3);

my %users = map { $_->{email} => $_->{dataFields} } $emulator->users;
foreach my $field (qw(a2 b2 a3 b3))
{
	my ($column) = $field =~ /(.)/;
	my %rows = map { split /\|/ } split /\n/, $node->safe_psql('postgres', qq{
		SELECT email, $column FROM item WHERE NOT pg_visible_in_snapshot(${column}_in, '$since{$field}')});
	my @wrong = grep { ($users{$_}{$field} // 'none') ne $rows{$_} } keys %rows;

	cmp_ok(scalar(keys %rows), '>', 300, "$field: rows have changed since it is mapped");
	is("@wrong", '', "$field: all of them are at Iterable as they are");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'iterable_(capture|truncate)'}),
	'6', 'the triggers are there once');
patiently("SELECT iterable_drop_sync('$_')") foreach qw(items2 items3);
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'iterable_(capture|truncate)'}),
	'0', 'and go with the last sync');

# A sync is dropped while a scan notes what is there.
foreach my $round (1 .. 40)
{
	patiently(q{
		SELECT iterable_create_sync('short', 'prod', 'item', 'user', 'id', 'email');
		SELECT iterable_enable_sync('short', 'updates_only')});
	select(undef, undef, undef, $round % 8 / 100);
	patiently(q{SELECT iterable_drop_sync('short')});
}
log_lacks($node, 'deadlock detected', 'nobody has met a scan in a deadlock');
log_lacks($node, 'not written before commit', 'nothing was left in a buffer');

done_testing();
