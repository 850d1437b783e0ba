# Copyright (c) 2026, the iterable_sync developers

# capture => 'row': rows are sent as they were committed, every version in
# order, whatever has become of them; as one event a row, or with versions =>
# true as one event a version.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(eventsRate => 0);
my $node = start_cluster('main', conf => "max_prepared_transactions = 2\niterable_sync.rescan_interval = 1\n");

$emulator->seed(map { { email => "u$_\@example.com" } } 1 .. 30);
create_connection($node, 'prod', $emulator, events_rate => 1000, users_rate => 1000);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A sync of events on a table of the columns id, email, status, ...
sub create_sync
{
	my ($name, $source, %options) = @_;
	my $schedule = delete $options{schedule} // 'continuous';
	my $filter = delete $options{filter};
	my $more = join('', map { ", $_ => $options{$_}" } sort keys %options);

	$more .= ", filter => \$\$$filter\$\$" if defined $filter;
	sql(qq{
		SELECT iterable_create_sync('$name', 'prod', '$source', 'event', 'id', 'email', schedule => '$schedule', capture => 'row'$more);
		SELECT iterable_add_mapping('$name', 'eventName', constant => '$name');
		SELECT iterable_add_mapping('$name', 'status', 'status');
		SELECT iterable_enable_sync('$name', 'updates_only');
	});
	return;
}

# "id status writes" of the events of a name, in the order in which they came.
sub events_of
{
	my ($name) = @_;

	return join(', ', map { ($_->{email} =~ /(\d+)/)[0] . " $_->{dataFields}{status} $_->{writes}" }
		  grep { $_->{eventName} eq $name } $emulator->events);
}

# What it was paused for is mended: iterable_wait() would not wait for the worker to see it.
sub goes_on
{
	my ($name) = @_;

	return wait_until(sub { sql("SELECT state FROM iterable.sync_status WHERE sync = '$name'") eq 'enabled' }, "$name goes on");
}

# Status by status as it was sent, also what was sent again
sub sent_of
{
	my ($name, $since) = @_;

	return join(' ', map { $_->{dataFields}{status} }
		  grep { $_->{eventName} eq $name }
		  map { @{ JSON::PP::decode_json($_->{body})->{events} // [] } }
		  grep { $_->{path} =~ m{trackBulk} } $emulator->requests($since));
}

sub failures_of
{
	my ($name) = @_;

	return sql("SELECT coalesce(string_agg(key || ' ' || class, ', ' ORDER BY key, version), '') FROM iterable.failure WHERE sync = '$name'");
}

subtest 'a history of states between two runs' => sub {
	sql('CREATE TABLE orders (id int PRIMARY KEY, email text, status text, n int)');
	create_sync('history', 'orders', schedule => 'manual', versions => 'true');
	create_sync('last', 'orders', schedule => 'manual');
	is(sql(q{SELECT string_agg(capture, ' ' ORDER BY sync) FROM iterable.sync_status}), 'versions row', 'the status says it');
	sql(q{INSERT INTO orders VALUES (1, 'u1@example.com', 'new')});
	sql(qq{UPDATE orders SET status = '$_'}) for qw(paid packed sent received);
	sql('UPDATE orders SET n = 1');
	sql(q{BEGIN; UPDATE orders SET status = 'lost'; SAVEPOINT a; UPDATE orders SET status = 'never'; ROLLBACK TO a;
		UPDATE orders SET status = 'found'; COMMIT});
	is(events_of('history'), '', 'nothing is sent before the run');
	sql(q{SELECT iterable_run('history'), iterable_run('last')});
	synced($node, 'history');
	synced($node, 'last');
	is(events_of('history'), join(', ', map { "1 $_ 1" } qw(new paid packed sent received lost found)),
		'every version is an event, in order');
	is(sent_of('last'), 'new paid packed sent received lost found', 'without versions all are sent, too');
	is(events_of('last'), '1 found 7', 'as one event, of which the last wins');

	sql(q{UPDATE orders SET status = 'found'; UPDATE orders SET status = 'paid'; UPDATE orders SET status = 'found';});
	sql(q{SELECT iterable_run('history')});
	synced($node, 'history');
	is(events_of('history'), join(', ', map { "1 $_ 1" } qw(new paid packed sent received lost found paid found)),
		'a state that comes back is an event, one that stays is none');
};

# A window is cut off after 100,000 transactions where rows are read as they are.
subtest 'a transaction that began long before the others' => sub {
	my $old = $node->background_psql('postgres');

	sql('CREATE TABLE long_ago (id int PRIMARY KEY, email text, status text); CREATE TABLE burnt (i int)');
	create_sync('long_ago', 'long_ago', schedule => 'manual');
	sql(q{INSERT INTO long_ago VALUES (1, 'u1@example.com', 'a')});
	$old->query_safe('BEGIN; SELECT pg_current_xact_id();');
	sql(q{DO $$BEGIN FOR i IN 1 .. 100100 LOOP BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN END; END LOOP; END$$});
	sql(q{UPDATE long_ago SET status = 'b'});
	$old->query_safe(q{UPDATE long_ago SET status = 'c'; COMMIT});
	$old->quit;
	sql(q{SELECT iterable_run('long_ago')});
	synced($node, 'long_ago');
	is(sent_of('long_ago'), 'a b c', 'its version comes last, as it was committed');
};

subtest 'a staging table' => sub {
	sql('CREATE TABLE staging (id int PRIMARY KEY, email text, status text)');
	create_sync('staging', 'staging', schedule => 'manual');
	sql(q{INSERT INTO staging SELECT i, 'u' || i || '@example.com', 's' || i FROM generate_series(1, 3) i; DELETE FROM staging});
	sql(q{INSERT INTO staging VALUES (5, 'u5@example.com', 's5'); TRUNCATE staging});
	sql(q{BEGIN; INSERT INTO staging VALUES (4, 'u4@example.com', 's4'); DELETE FROM staging; PREPARE TRANSACTION 'p'});
	sql(q{BEGIN; INSERT INTO staging VALUES (6, 'u6@example.com', 's6'); DELETE FROM staging; ROLLBACK});
	$node->restart;
	sql(q{COMMIT PREPARED 'p'});
	sql(q{SELECT iterable_run('staging')});
	synced($node, 'staging');
	is(join(' ', sort split /, /, events_of('staging')), join(' ', map { "$_ s$_ 1" } 1 .. 5),
		'rows that are gone are sent as they were');
	is(sql(q{SELECT string_agg(key || state, ' ' ORDER BY key) FROM iterable.delivery WHERE sync = 'staging' AND key <= '4'}),
		'1vanished 2vanished 3vanished 4vanished', 'and recorded as gone');
};


subtest 'what has failed is tried again as it was' => sub {
	sql('CREATE TABLE failing (id int PRIMARY KEY, email text, status text)');
	create_sync($_, 'failing', versions => $_ eq 'each' ? 'true' : 'false') for qw(each final);
	sql(q{BEGIN; INSERT INTO failing VALUES (41, 'u41@example.com', 'a'), (42, 'u42@example.com', 'a'); UPDATE failing SET status = 'b';
		DELETE FROM failing WHERE id = 41; COMMIT});
	synced($node, 'each', 'each has four failures', 4);
	synced($node, 'final', 'final has two failures', 2);
	is(failures_of('each'), join(', ', map { "$_ notFoundEmails" } 41, 41, 42, 42), 'every version fails by itself');
	is(failures_of('final'), '41 notFoundEmails, 42 notFoundEmails', 'or the last one');
	is(sql(q{SELECT count(DISTINCT version), count(version) FROM iterable.failure WHERE sync = 'each'}), '4|4', 'they are told apart');

	# a newer version does away with what failed before only where the last one wins
	$emulator->seed({ email => 'u42@example.com' });
	sql(q{UPDATE failing SET status = 'c'});
	synced($node, 'each', 'the others still fail', 4);
	synced($node, 'final', 'the last one has won', 1);

	$emulator->seed({ email => 'u41@example.com' });
	sql('DROP TABLE failing; CREATE TABLE failing (id int PRIMARY KEY, email text, status text)');
	sql(q{SELECT iterable_retry_failures('each'), iterable_retry_failures('final')});
	synced($node, 'each');
	synced($node, 'final');
	is(join(' ', sort split /, /, events_of('each')), '41 a 1 41 b 1 42 a 1 42 b 1 42 c 1', 'in the end every version is there');
	is(join(' ', sort split /, /, events_of('final')), '41 b 1 42 c 1', 'or the last one');
	is(sql(q{SELECT count(*) FROM iterable.sync_failure}), '0', 'and nothing is kept of them');
};

subtest 'a failed version gives way to one that failed later' => sub {
	sql('CREATE TABLE late (id int PRIMARY KEY, email text, status text)');
	create_sync('late', 'late');
	sql(q{INSERT INTO late VALUES (43, 'u43@example.com', 'a')});
	synced($node, 'late', 'a fails', 1);
	my $first = sql(q{SELECT version FROM iterable.failure WHERE sync = 'late'});

	# a retry of the first is in the log behind the second
	sql(q{SELECT iterable_disable_sync('late')});
	sql(q{UPDATE late SET status = 'b'});
	sql(q{SELECT iterable_retry_failures('late')});
	sql(q{SELECT iterable_enable_sync('late')});
	synced($node, 'late', 'b fails', 1);
	isnt(sql(q{SELECT version FROM iterable.failure WHERE sync = 'late'}), $first, 'it is the newer one that stands');
	$emulator->seed({ email => 'u43@example.com' });
	sql(q{SELECT iterable_retry_failures('late')});
	synced($node, 'late');
	is(events_of('late'), '43 b 1', 'it alone is sent');
};

subtest 'filter, expressions and identifier are those of the version' => sub {
	sql(q{
		CREATE ROLE keeper NOLOGIN;
		CREATE TABLE filtered (id int PRIMARY KEY, email text, status text, amount numeric, note text);
		CREATE TABLE ran_as (who text);
		CREATE FUNCTION who(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_user; END$$;
		GRANT CREATE ON SCHEMA public TO keeper;
		ALTER TABLE filtered OWNER TO keeper;
	});
	create_sync('filtered', 'filtered', schedule => 'manual', versions => 'true', filter => 'amount > 10');
	sql(q{SELECT iterable_add_mapping('filtered', 'share', expression => '100 / (amount - 12)', apply => 'updates_only')});
	sql(q{SELECT iterable_add_mapping('filtered', 'who', expression => 'public.who(note)', apply => 'updates_only')});
	sql(q{INSERT INTO filtered VALUES (1, 'u1@example.com', 'small', 5), (2, 'u2@example.com', 'large', 22), (3, 'u3@example.com', 'zero', 12)});
	sql(q{UPDATE filtered SET amount = 32, status = 'grown', email = 'u4@example.com' WHERE id = 1});
	sql(q{UPDATE filtered SET amount = 1});
	sql(q{SELECT iterable_run('filtered')});
	synced($node, 'filtered', 'a division by zero fails', 1);
	is(join(' ', sort split /, /, events_of('filtered')), '2 large 1 4 grown 1', 'what matched when it was committed is sent');
	is(failures_of('filtered'), '3 expression', 'an expression that fails spares its neighbours');
	is(join(' ', sort map { $_->{dataFields}{share} + 0 . $_->{dataFields}{who} } grep { $_->{eventName} eq 'filtered' } $emulator->events),
		'10keeper 5keeper', 'expressions run as the owner of the source');
	sql(q{SELECT iterable_drop_mapping('filtered', 'share', 'updates_only'), iterable_retry_failures('filtered'), iterable_run('filtered')});
	synced($node, 'filtered');
	is(join(' ', sort split /, /, events_of('filtered')), '2 large 1 3 zero 1 4 grown 1', 'a mended mapping mends the version');
};

subtest 'two syncs of one table, of which one wants rows' => sub {
	sql('CREATE TABLE shared (id int PRIMARY KEY, email text, status text, other text)');
	sql(q{
		SELECT iterable_create_sync('shared_key', 'prod', 'shared', 'event', 'id', 'email', schedule => 'manual');
		SELECT iterable_add_mapping('shared_key', 'eventName', constant => 'shared_key');
		SELECT iterable_add_mapping('shared_key', 'status', 'status');
		SELECT iterable_add_mapping('shared_key', 'other', 'other');
		SELECT iterable_enable_sync('shared_key', 'updates_only')});
	my $arguments = q{SELECT replace(encode(tgargs, 'escape'), '\000', ' ') FROM pg_trigger WHERE tgrelid = 'shared'::regclass AND tgname ~ 'capture'};
	like(sql($arguments), qr/^\d+ \{id\} \{email,status,other\} $/, 'keys alone are captured');
	create_sync('shared_row', 'shared', schedule => 'manual');
	like(sql($arguments), qr/^\d+ \{id\} \{email,status,other\} \{email,status\} $/, 'and what one sync needs of the rows');
	sql(q{INSERT INTO shared VALUES (1, 'u1@example.com', 'a'); UPDATE shared SET other = 'o'; UPDATE shared SET status = 'b'});
	sql(q{SELECT iterable_run('shared_key'), iterable_run('shared_row')});
	synced($node, $_) for qw(shared_key shared_row);
	is(sent_of('shared_key'), 'b', 'one sends the row as it is');
	is(sent_of('shared_row'), 'a b', 'the other as it was');
	sql(q{SELECT iterable_drop_sync('shared_row'); SELECT iterable_update_sync('shared_key', filter => 'true', apply => 'updates_only')});
	like(sql($arguments), qr/^\d+ \{id\} \{email,status,other\} $/, 'rows are not stored any more when nobody wants them');
};

subtest 'from keys to rows and back' => sub {
	sql('CREATE TABLE turned (id int PRIMARY KEY, email text, status text)');
	sql(q{
		SELECT iterable_create_sync('turned', 'prod', 'turned', 'event', 'id', 'email', schedule => 'manual');
		SELECT iterable_add_mapping('turned', 'eventName', constant => 'turned');
		SELECT iterable_add_mapping('turned', 'status', 'status');
		SELECT iterable_enable_sync('turned', 'updates_only')});
	sql(q{INSERT INTO turned VALUES (1, 'u1@example.com', 'a'), (2, 'u2@example.com', 'gone')});
	sql(q{SELECT iterable_update_sync('turned', capture => 'row')});
	sql(q{UPDATE turned SET status = 'b' WHERE id = 1; UPDATE turned SET status = 'c' WHERE id = 1; DELETE FROM turned WHERE id = 2});
	sql(q{SELECT iterable_run('turned')});
	synced($node, 'turned');
	is(sent_of('turned'), 'c b c', 'what was captured before is sent as it is, what came after as it was');
	sql(q{UPDATE turned SET status = 'd'; UPDATE turned SET status = 'e'});
	sql(q{SELECT iterable_update_sync('turned', capture => 'key')});
	sql(q{UPDATE turned SET status = 'f'});
	sql(q{SELECT iterable_run('turned')});
	synced($node, 'turned');
	is(sent_of('turned'), 'c b c f', 'and turned back, as it is');
	is(events_of('turned'), '1 f 4', 'it is one event all the time');
};

subtest 'a backfill' => sub {
	sql(q{CREATE TABLE filled (id int PRIMARY KEY, email text, status text); INSERT INTO filled VALUES (1, 'u1@example.com', 'a')});
	create_sync('filled', 'filled', versions => 'true');
	sql(q{SELECT iterable_backfill('filled')});
	wait_until(sub { events_of('filled') eq '1 a 1' }, 'the row as it is is one version');
	synced($node, 'filled');
	sql(q{UPDATE filled SET status = 'b'; UPDATE filled SET status = 'a'});
	synced($node, 'filled');
	sql(q{SELECT iterable_backfill('filled')});
	synced($node, 'filled');
	is(events_of('filled'), '1 a 1, 1 b 1, 1 a 1', 'nothing is sent twice');
};

subtest 'columns that change under stored versions' => sub {
	sql('CREATE TABLE altered (id int PRIMARY KEY, email text, status text, n int, gone text)');
	create_sync('altered', 'altered', schedule => 'manual', versions => 'true');
	sql(q{SELECT iterable_add_mapping('altered', 'n', 'n', apply => 'updates_only')});
	sql(q{INSERT INTO altered VALUES (1, 'u1@example.com', 'before', 7)});
	sql(q{ALTER TABLE altered RENAME status TO state});
	sql(q{INSERT INTO altered VALUES (2, 'u2@example.com', 'between', 8)});
	sql(q{SELECT iterable_run('altered')});
	wait_until(sub { sql(q{SELECT state || reason FROM iterable.sync_status WHERE sync = 'altered'}) =~ /paused.*"status"/ }, 'a renamed column pauses the sync');
	sql(q{SELECT iterable_set_mappings('altered', '{"eventName": {"constant": "altered"}, "status": "state", "n": "n"}', 'updates_only')});
	sql(q{ALTER TABLE altered ALTER n TYPE bigint});
	sql(q{INSERT INTO altered VALUES (3, 'u3@example.com', 'after', 9)});
	sql(q{ALTER TABLE altered ADD later text});
	sql(q{SELECT iterable_add_mapping('altered', 'later', 'later', apply => 'updates_only')});
	sql(q{SELECT iterable_run('altered')});
	goes_on('altered');
	synced($node, 'altered');
	is(join(', ', map { join(' ', map { $_ // '-' } $_->{dataFields}->@{qw(status n later)}) } grep { $_->{eventName} eq 'altered' } $emulator->events),
		'before 7 -, between 8 -, after 9 -', 'versions are what they were, under the new name of the column');

	# an expression that does not go with the type that the column had
	sql(q{UPDATE altered SET state = 'number', n = 10 WHERE id = 1});
	sql(q{ALTER TABLE altered ALTER n TYPE text});
	sql(q{SELECT iterable_drop_mapping('altered', 'n', 'updates_only'), iterable_add_mapping('altered', 'n', expression => 'length(n)', apply => 'updates_only')});
	sql(q{UPDATE altered SET state = 'sum', n = '1111' WHERE id = 1});
	sql(q{SELECT iterable_run('altered')});
	synced($node, 'altered', 'one version does not fit', 1);
	is(failures_of('altered'), '1 stored_columns', 'and says why');
	is(sql(q{SELECT what_to_do IS NOT NULL FROM iterable.failure WHERE sync = 'altered'}), 't', 'and what to do');
	like(events_of('altered'), qr/1 sum 1/, 'its neighbours are sent');
	sql(q{SELECT iterable_drop_mapping('altered', 'n', 'updates_only'), iterable_add_mapping('altered', 'n', 'n', apply => 'updates_only'), iterable_retry_failures('altered'), iterable_run('altered')});
	synced($node, 'altered');
	like(events_of('altered'), qr/1 number 1/, 'it is sent when the mapping fits it again');

	# a filter cannot be true of what was not stored
	sql(q{ALTER TABLE altered ALTER n TYPE int USING n::int});
	sql(q{UPDATE altered SET state = 'unfiltered' WHERE id = 1});
	sql(q{SELECT iterable_update_sync('altered', filter => 'gone IS NULL', apply => 'updates_only')});
	sql(q{SELECT iterable_run('altered')});
	synced($node, 'altered', 'a filter that reads what was not stored fails', 1);
	is(failures_of('altered'), '1 stored_columns', 'and says so');

	# a dropped column
	sql(q{SELECT iterable_update_sync('altered', filter => '', apply => 'updates_only')});
	sql(q{UPDATE altered SET state = 'dropped' WHERE id = 1; ALTER TABLE altered DROP n});
	sql(q{SELECT iterable_run('altered')});
	wait_until(sub { sql(q{SELECT state || reason FROM iterable.sync_status WHERE sync = 'altered'}) =~ /paused.*"n"/ }, 'a dropped column pauses the sync');
	sql(q{SELECT iterable_drop_mapping('altered', 'n', 'updates_only'), iterable_retry_failures('altered')});
	sql(q{SELECT iterable_run('altered')});
	goes_on('altered');
	synced($node, 'altered');
	like(events_of('altered'), qr/1 dropped 1/, 'and nothing is lost');
};

subtest 'composite types that are altered' => sub {
	sql(q{
		CREATE TYPE pair AS (a int, b text);
		CREATE TABLE composed (id int PRIMARY KEY, email text, status text, p pair, ps pair[]);
	});
	create_sync('composed', 'composed', schedule => 'manual', versions => 'true');
	sql(q{SELECT iterable_add_mapping('composed', 'p', 'p', apply => 'updates_only'), iterable_add_mapping('composed', 'ps', 'ps', apply => 'updates_only')});
	sql(q{INSERT INTO composed VALUES (1, 'u1@example.com', 'one', '(1,x)', '{"(2,y)"}')});
	sql(q{SELECT iterable_run('composed')});
	synced($node, 'composed');
	is(JSON::PP->new->canonical->encode((grep { $_->{eventName} eq 'composed' } $emulator->events)[0]{dataFields}),
		'{"p":{"a":1,"b":"x"},"ps":[{"a":2,"b":"y"}],"status":"one"}', 'composites are as they were');
	sql(q{INSERT INTO composed VALUES (2, 'u2@example.com', 'two', '(1,x)', '{"(2,y)"}')});

	# the type may be anything once the table is another one
	sql(q{
		DROP TABLE composed;
		ALTER TYPE pair ALTER ATTRIBUTE a TYPE text;
		CREATE TABLE composed (id int PRIMARY KEY, email text, status text, p pair, ps pair[]);
	});
	sql(q{SELECT iterable_run('composed')});
	synced($node, 'composed', 'values of another type are not read', 1);
	is(failures_of('composed'), '2 stored_columns', 'and the failure says so');
	sql(q{SELECT iterable_drop_mapping('composed', 'p', 'updates_only'), iterable_drop_mapping('composed', 'ps', 'updates_only'), iterable_retry_failures('composed'), iterable_run('composed')});
	synced($node, 'composed');
	like(events_of('composed'), qr/2 two 1/, 'what can be read is sent');
};

subtest 'partitions' => sub {
	sql(q{
		CREATE TABLE parted (id int PRIMARY KEY, email text, status text, n int) PARTITION BY RANGE (id);
		CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
		CREATE TABLE parted_2 (dropped text, n int, status text, junk int, email text, id int NOT NULL);
		ALTER TABLE parted_2 DROP dropped, DROP junk;
		ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
	});
	create_sync('parted', 'parted', schedule => 'manual', versions => 'true');
	sql(q{BEGIN; INSERT INTO parted SELECT i, 'u' || i || '@example.com', 's' || i FROM unnest('{1,11,2,12}'::int[]) i;
		UPDATE parted SET id = 13, email = 'u13@example.com' WHERE id = 1; INSERT INTO parted_2 (id, email, status) VALUES (14, 'u14@example.com', 's14'); COMMIT});
	sql(q{SELECT iterable_run('parted')});
	synced($node, 'parted');
	is(join(' ', sort split /, /, events_of('parted')), '1 s1 1 11 s11 1 12 s12 1 13 s1 1 14 s14 1 2 s2 1', 'rows of all of them are read as they were laid out');
};

subtest 'large and many' => sub {
	sql(q{
		CREATE TABLE large (id int PRIMARY KEY, email text DEFAULT 'u1@example.com', status text, body text);
		ALTER TABLE large ALTER body SET STORAGE EXTERNAL;
	});
	create_sync('large', 'large', schedule => 'manual', versions => 'true');
	sql(q{SELECT iterable_add_mapping('large', 'body', 'body', apply => 'updates_only')});
	sql(q{INSERT INTO large SELECT i, 'u1@example.com', 's' || i, repeat(chr(64 + i), 20000) FROM generate_series(1, 10) i});
	sql(q{BEGIN; UPDATE large SET status = 'twice'; SAVEPOINT a; UPDATE large SET body = 'never'; ROLLBACK TO a; DELETE FROM large; COMMIT; VACUUM large});

	# an exception block a row, every other of which is rolled back
	sql(q{
		DO $$
		BEGIN
			FOR i IN 1001 .. 4000 LOOP
				BEGIN
					INSERT INTO large (id, status, body) VALUES (i, 'loop', repeat('x', 100));
					UPDATE large SET status = 'again' WHERE id = i AND i % 100 = 0;
					IF i % 2 = 1 THEN RAISE division_by_zero; END IF;
				EXCEPTION WHEN division_by_zero THEN NULL;
				END;
			END LOOP;
		END $$});
	cmp_ok(sql(q{SELECT count(*) FROM iterable.change c JOIN iterable.source s USING (source_id) WHERE table_name = 'large' AND c.captured_at > now() - interval '1 hour'}),
		'<', 60, 'the log has few rows');
	sql(q{SELECT iterable_run('large')});
	synced($node, 'large');
	my @events = grep { $_->{eventName} eq 'large' } $emulator->events;
	is(scalar(grep { length($_->{dataFields}{body}) == 20_000 } @events), 20, 'values out of line are sent, also when they are gone');
	is(scalar(grep { $_->{dataFields}{status} eq 'loop' } @events), 1500, 'each row of the loop that was committed');
	is(scalar(grep { $_->{dataFields}{status} eq 'again' } @events), 30, 'and each of its versions');
	is(scalar(@events), 1550, 'and nothing else');
};

subtest 'crashes in between' => sub {
	sql('CREATE TABLE crashed (id int PRIMARY KEY, email text, status text, note int)');
	create_sync($_, 'crashed', schedule => 'manual', versions => $_ eq 'crashed' ? 'true' : 'false') for qw(crashed crashed_last crashed_note);
	sql(q{SELECT iterable_add_mapping('crashed_note', 'note', 'note', apply => 'updates_only')});
	sql(q{INSERT INTO crashed SELECT i, 'u' || i || '@example.com', 's0' FROM generate_series(1, 10) i});
	# only the third sync, which is not run, reads note: these versions say nothing new to the others
	sql(qq{UPDATE crashed SET note = $_ WHERE id <= 5; UPDATE crashed SET status = 's$_' WHERE id > 5;
		UPDATE crashed SET note = $_ WHERE id > 5; UPDATE crashed SET status = 's$_' WHERE id <= 5}) for 1 .. 4;
	sql('DELETE FROM crashed');
	for my $round (1 .. 4)
	{
		$emulator->script({ path => '/api/events/trackBulk' }, { path => '/api/events/trackBulk', action => 'apply_then_hang' });
		sql(q{SELECT iterable_run('crashed'), iterable_run('crashed_last')});
		wait_until(sub { $emulator->stats->{inFlight} >= 1 }, 'Iterable has a request and does not answer');
		$node->stop('immediate');
		$emulator->release;
		$node->start;
	}
	sql(q{SELECT iterable_run('crashed'), iterable_run('crashed_last')});
	synced($node, 'crashed');
	synced($node, 'crashed_last');
	my %seen;
	push @{ $seen{ $_->{email} } }, $_->{dataFields}{status} for grep { $_->{eventName} eq 'crashed' } $emulator->events;
	is(join(', ', map { "@{$seen{$_}}" } sort keys %seen), join(', ', ('s0 s1 s2 s3 s4') x 10), 'every version is an event, once and in order');
	is(join(' ', map { $_->{dataFields}{status} } grep { $_->{eventName} eq 'crashed_last' } $emulator->events), join(' ', ('s4') x 10), 'the last version wins');
};

subtest 'gone from the disk' => sub {
	my $size = q{SELECT sum(pg_total_relation_size(oid) - pg_indexes_size(oid)) FROM pg_class WHERE relname ~ '^change_\d$'};

	sql(q{SELECT iterable_drop_sync(sync) FROM iterable.sync_status WHERE sync <> 'large'});
	synced($node, 'large');
	cmp_ok(sql($size), '>', 100000, 'the log is large');
	my $before = sql($size);
	wait_until(sub { sql('SELECT iterable.rotate_change_log()'); sql($size) <= 4 * 8192; }, 'segments are emptied with what is out of line when all is sent')
	  or diag("from $before to " . sql($size));
};

subtest 'what cannot be' => sub {
	sql(q{CREATE TABLE refused (id int PRIMARY KEY, email text, status text); ALTER TABLE refused OWNER TO keeper; ALTER TABLE refused ENABLE ROW LEVEL SECURITY});
	create_sync('refused', 'refused');
	sql(q{ALTER TABLE refused FORCE ROW LEVEL SECURITY; INSERT INTO refused VALUES (1, 'u1@example.com', 'hidden')});
	wait_until(sub { sql(q{SELECT reason FROM iterable.sync_status WHERE sync = 'refused'}) =~ /row security/ }, 'policies that hold for the owner keep rows from being sent');
	is(events_of('refused'), '', 'nothing is sent');
	sql(q{ALTER TABLE refused NO FORCE ROW LEVEL SECURITY; UPDATE refused SET status = 'shown'});
	wait_until(sub { events_of('refused') eq '1 shown 2' }, 'and nothing is lost');
};

subtest 'whose versions' => sub {
	# Anybody can name this source in a trigger on a table of theirs.
	sql('CREATE TABLE guarded (id int PRIMARY KEY, email text, status text)');
	create_sync('guarded', 'guarded');
	my $source_id = sql(q{SELECT source_id FROM iterable.sync WHERE name = 'guarded'});
	sql(qq{
		CREATE ROLE stranger;
		CREATE SCHEMA strange AUTHORIZATION stranger;
		SET ROLE stranger;
		CREATE TABLE strange.forged (id int PRIMARY KEY, email text, status text);
		CREATE TRIGGER forge AFTER INSERT OR UPDATE ON strange.forged FOR EACH ROW
			EXECUTE FUNCTION iterable_capture('$source_id', '{id}', '*', '*');
		INSERT INTO strange.forged VALUES (1, 'u1\@example.com', 'forged'), (2, 'u2\@example.com', 'forged');
		RESET ROLE;
		INSERT INTO guarded VALUES (1, 'u1\@example.com', 'true');
		UPDATE strange.forged SET status = 'forged again'});
	synced($node, 'guarded', 'a table of others names the source in a trigger');
	is(events_of('guarded'), '1 true 1', 'nothing of its rows is sent');
};

done_testing();
