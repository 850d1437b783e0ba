# Copyright (c) 2026, the iterable_sync developers

# Writers that begin, write and commit in unlucky orders: Iterable ends with the
# table's last state, and gets no older state after a newer one.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib $FindBin::Bin;
use IterableSync::Test;
use PostgreSQL::Test::BackgroundPsql;

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('windows');
create_connection($node, 'prod', $emulator, users_rate => 1000, events_rate => 1000);
$node->safe_psql('postgres', q{
	CREATE TABLE item (id int PRIMARY KEY, email text, v int);
	CREATE TABLE other (i int);
	INSERT INTO item SELECT i, 'i' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	SELECT iterable_create_sync('items', 'prod', 'item', 'user', 'id', 'email');
	SELECT iterable_add_mapping('items', 'v', 'v');
	SELECT iterable_enable_sync('items', 'updates_only')});

my %session = map { $_ => $node->background_psql('postgres', on_error_stop => 1) } qw(ta tb long);

sub run
{
	my ($name, $sql) = @_;

	$session{$name}->query_safe($sql);
	return;
}

# What Iterable has of a user.
sub at_iterable
{
	my ($id) = @_;
	my ($user) = grep { $_->{email} eq "i$id\@example.com" } $emulator->users;

	return defined $user ? $user->{dataFields}{v} : '';
}

# What it was sent for a user, in order.
sub sent
{
	my ($id) = @_;
	my @sent;

	foreach my $request ($emulator->requests)
	{
		next if !defined $request->{body};
		my $body = JSON::PP->new->decode(
			ref $request->{body} ? JSON::PP->new->encode($request->{body}) : $request->{body});
		push @sent,
		  map { $_->{dataFields}{v} }
		  grep { $_->{email} eq "i$id\@example.com" } @{ $body->{users} };
	}
	return "@sent";
}

sub all_done
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($node->safe_psql('postgres', q{SELECT done, failures FROM iterable_wait('items', '1 min')}),
		't|0', $what);
}

# ----------------------------------------------------------------
# The earlier transaction commits later
# ----------------------------------------------------------------

run('ta', 'BEGIN; UPDATE item SET v = 1 WHERE id = 1');
run('tb', 'UPDATE item SET v = 1 WHERE id = 2');
wait_until(sub { at_iterable(2) eq '1' }, 'a later transaction does not wait for an earlier one');
all_done('nothing is left');
is(at_iterable(1), '', 'the earlier one is not sent yet');
run('ta', 'COMMIT');
wait_until(sub { at_iterable(1) eq '1' }, 'the earlier one is sent when it commits');

# with its keys in the log early, and windows that begin and end meanwhile
run('ta', 'BEGIN; SAVEPOINT a;
	INSERT INTO item SELECT i, NULL, 1 FROM generate_series(100001, 105000) i;
	UPDATE item SET v = 2 WHERE id = 1;
	DELETE FROM item WHERE id > 100000;
	RELEASE a');
foreach my $v (2 .. 5)
{
	run('tb', "UPDATE item SET v = $v WHERE id = 2");
	wait_until(sub { at_iterable(2) eq $v }, "window $v");
}
run('ta', 'COMMIT');
wait_until(sub { at_iterable(1) eq '2' }, 'nothing of it is lost');
all_done('nothing is left');

# ----------------------------------------------------------------
# Commits in another order than transaction ids, an open transaction in between
# ----------------------------------------------------------------

foreach my $together (0, 1)
{
	my $id = 3 + $together;
	my $how = $together ? 'in one window' : 'in two windows';

	$node->safe_psql('postgres', q{SELECT iterable_disable_sync('items')}) if $together;
	run('tb', 'BEGIN; INSERT INTO other VALUES (1)');
	run('long', 'BEGIN; INSERT INTO other VALUES (2)');
	run('ta', "UPDATE item SET v = 1 WHERE id = $id");
	wait_until(sub { at_iterable($id) eq '1' }, 'the first change is sent') if !$together;
	run('tb', "UPDATE item SET v = 2 WHERE id = $id; COMMIT");
	$node->safe_psql('postgres', q{SELECT iterable_enable_sync('items')}) if $together;
	wait_until(sub { at_iterable($id) eq '2' }, "the second one is sent, $how");
	all_done('the open transaction holds up nothing');
	run('long', 'COMMIT');
	run('ta', 'UPDATE item SET v = v + 1 WHERE id = 20');
	all_done('the open transaction has ended');
	is(at_iterable($id), '2', "the second one stays, $how");
	is(sent($id), $together ? '2' : '1 2', "in order, $how");
}

# the row is deleted and inserted again, and changes its key
run('tb', 'BEGIN; INSERT INTO other VALUES (1)');
run('long', 'BEGIN; INSERT INTO other VALUES (2)');
run('ta', "DELETE FROM item WHERE id = 5");
run('tb', "INSERT INTO item VALUES (5, 'i5\@example.com', 7); COMMIT");
wait_until(sub { at_iterable(5) eq '7' }, 'deleted and inserted again');
run('ta', 'UPDATE item SET id = 1005, v = 8 WHERE id = 5');
run('ta', 'UPDATE item SET id = 6, v = 9 WHERE id = 1005')
  if $node->safe_psql('postgres', 'DELETE FROM item WHERE id = 6 RETURNING id') eq '6';
wait_until(sub { at_iterable(5) eq '9' }, 'with another key');
run('long', 'ROLLBACK');
all_done('nothing is left');
is(at_iterable(5), '9', 'that stays');

$session{$_}->quit foreach keys %session;

# ----------------------------------------------------------------
# Many writers on few rows, by chance
# ----------------------------------------------------------------

my %script = (
	update => 'UPDATE item SET v = :v WHERE id = :id;',
	open => "BEGIN;\nINSERT INTO other VALUES (1);\n\\sleep :ms ms\nUPDATE item SET v = :v WHERE id = :id;\n\\sleep :ms ms\nCOMMIT;",
	savepoint => "BEGIN;\nSAVEPOINT a;\nUPDATE item SET v = :v WHERE id = :id;\nROLLBACK TO a;\nSAVEPOINT b;\nUPDATE item SET v = :v + 1 WHERE id = :id;\n\\sleep :ms ms\nCOMMIT;",
	rollback => "BEGIN;\nUPDATE item SET v = :v WHERE id = :id;\n\\sleep :ms ms\nROLLBACK;",
	replace => "BEGIN;\nDELETE FROM item WHERE id = :id;\nINSERT INTO item VALUES (:id, 'i' || :id || '\@example.com', :v) ON CONFLICT (id) DO UPDATE SET v = excluded.v;\nCOMMIT;",
	rotate => 'SELECT iterable.rotate_change_log();');
my %weight = (update => 10, open => 3, savepoint => 3, rollback => 2, replace => 3, rotate => 1);
my $directory = PostgreSQL::Test::Utils::tempdir();
my @files;

foreach my $name (sort keys %script)
{
	append_to_file("$directory/$name.sql",
		"\\set id random(1, 20)\n\\set v random(1, 1000000)\n\\set ms random(1, 60)\n$script{$name}\n");
	push @files, '-f', "$directory/$name.sql\@$weight{$name}";
}
my $deadlocks = 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()';
$node->command_ok(
	[ 'pgbench', '-n', '-c', 8, '-T', 10, @files, $node->connstr('postgres') ],
	'8 writers on 20 rows');
all_done('everything is sent');
my $expected = $node->safe_psql('postgres', q{SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM item WHERE v <> 0});
is(join(' ', map { "$_=" . at_iterable($_) } grep { $expected =~ /(^| )$_=/ } 1 .. 20),
	$expected, 'Iterable ends with the state of the table');
is($node->safe_psql('postgres', $deadlocks), '0', 'no deadlock');
unlike(log_of($node), qr/not written before commit|PANIC|TRAP|terminated by signal|ERROR/, 'nothing odd in the log');

done_testing();
