BEGIN TRANSACTION;
CREATE TABLE application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL);
INSERT INTO "application_versions" VALUES('3ca7a9f5-a96d-4944-a99e-7f25c4e9a770','workflows-1',1795296212000,1795296212000,'delineate');
CREATE TABLE association (
	association_id TEXT NOT NULL, 
	series_uid TEXT NOT NULL, 
	calling_ae_title TEXT NOT NULL, 
	ending TEXT NOT NULL, 
	opened_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	PRIMARY KEY (association_id, series_uid)
);
INSERT INTO "association" VALUES('receiver/8bdae7dd3ab54cb6a641757bb1cd0ecc','2.25.154922275358280492045721462790692474553','CT1','released',1.79529622095539355278e+09,1.79529622107137155537e+09);
INSERT INTO "association" VALUES('receiver/0e872907817a4237ba745b493ebef101','2.25.187552705747114906758708772924586994752','CT1','released',1.79529622355724430087e+09,1.79529622363136148448e+09);
INSERT INTO "association" VALUES('receiver/f7f3776c28df4d449a16cec7d7989e0a','2.25.202715253223142690191261198979407777868','CT1','released',1.79529622498974943158e+09,1.79529622506555581098e+09);
CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "dbos_migrations" VALUES(125);
CREATE TABLE delivery (
	job TEXT NOT NULL, 
	destination TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	offers JSON NOT NULL, 
	receipts JSON NOT NULL, 
	next_attempt_at FLOAT, 
	took_s FLOAT, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (job, destination)
);
INSERT INTO "delivery" VALUES('2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1','tps','waiting',2,'tps (TPS at 127.0.0.1:104) cannot be reached: connection refused.','[["2.25.213111065238322147119311760614257269963", "2.25.76321070469788629284619315360514192289"]]','[]',1.79529682341424298283e+09,NULL,1.79529622320091032986e+09,1795296223.41489);
CREATE TABLE event (
	event INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (event), 
	CONSTRAINT event_once UNIQUE (kind, subject, text)
);
CREATE TABLE job (
	job TEXT NOT NULL, 
	series_uid TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	channels JSON NOT NULL, 
	route TEXT NOT NULL, 
	model TEXT NOT NULL, 
	outputs JSON NOT NULL, 
	destinations JSON NOT NULL, 
	run_number INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	progress TEXT NOT NULL, 
	progress_at FLOAT, 
	setbacks JSON NOT NULL, 
	report JSON NOT NULL, 
	timings JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (job)
);
INSERT INTO "job" VALUES('2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1','2.25.154922275358280492045721462790692474553','730849b93be1a7d8a0247fcf9489375434fadf191725813b4e7e114e30cf699d','[]','planning-ct','body-bones','["rtstruct", "seg"]','["tps"]',1,1,'contoured','','',NULL,'[]','{"structures": [{"name": "Body", "volume_cm3": 1445.85, "contours": 12}, {"name": "Bone", "volume_cm3": 40.23, "contours": 12}], "omitted": [], "renamed": [], "channels": [], "notes": [], "model": "body-bones", "model_version": "1.0.0", "model_digest": "46ee5e8c192a156544ecd09044a082cd84bf21e7dc64ce8b42a36b7fb25953a8", "computed_by": "CPUExecutionProvider, float32, onnxruntime 1.31.1", "software_version": "0.1.0", "run_number": 1, "notice": "Research use; not a medical device. Every contour needs review by a clinician."}','{"queued": 0.2042, "read": 0.0343, "model": 0.0002, "inference": 0.1191, "seg": 0.5965, "verify seg": 0.0171, "contours": 0.0157, "rtstruct": 0.0143, "verify rtstruct": 0.0119, "store": 0.0062}',1.79529622217840743067e+09,1.79529622320152330394e+09);
INSERT INTO "job" VALUES('2.25.187552705747114906758708772924586994752/ac4fa70c91605bb3/body-bones/1','2.25.187552705747114906758708772924586994752','ac4fa70c91605bb3bf671efad5edb2d129cc7376eadfa36ccd266288886aa6fa','[]','planning-ct','body-bones','["rtstruct", "seg"]','["tps"]',1,1,'contouring','','',NULL,'[]','{}','{}',1.79529622476206398009e+09,1.79529622490777611733e+09);
INSERT INTO "job" VALUES('2.25.202715253223142690191261198979407777868/322127087b5cbf2a/body-bones/1','2.25.202715253223142690191261198979407777868','322127087b5cbf2a5d70d9ab1c668a6c022d3e6f206fdcac193ffe1b0caa4ab1','[]','planning-ct','body-bones','["rtstruct", "seg"]','["tps"]',1,1,'queued','','',NULL,'[]','{}','{}',1.79529622608681130408e+09,1.79529622608681130408e+09);
CREATE TABLE lesson (
	calling_ae_title TEXT NOT NULL, 
	series_instance_uid TEXT NOT NULL, 
	learned_at FLOAT NOT NULL, 
	instances INTEGER NOT NULL, 
	associations INTEGER NOT NULL, 
	within_s FLOAT NOT NULL, 
	between_s FLOAT NOT NULL, 
	counted_acquisitions INTEGER NOT NULL, 
	PRIMARY KEY (calling_ae_title, series_instance_uid)
);
INSERT INTO "lesson" VALUES('CT1','2.25.154922275358280492045721462790692474553',1.79529622215258097654e+09,12,1,2.39999294281005859375e-02,0.0,0);
INSERT INTO "lesson" VALUES('CT1','2.25.187552705747114906758708772924586994752',1.79529622474882054328e+09,12,1,1.19998455047607421875e-02,0.0,0);
INSERT INTO "lesson" VALUES('CT1','2.25.202715253223142690191261198979407777868',1.79529622607673311233e+09,12,1,0.00800013542175293,0.0,0);
CREATE TABLE manifest (
	series_uid TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	body JSON NOT NULL, 
	evidence JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (series_uid, fingerprint)
);
INSERT INTO "manifest" VALUES('2.25.154922275358280492045721462790692474553','730849b93be1a7d8a0247fcf9489375434fadf191725813b4e7e114e30cf699d','{"series_instance_uid": "2.25.154922275358280492045721462790692474553", "study_instance_uid": "2.25.326502229355487530647111282782822131946", "frame_of_reference_uid": "2.25.104894962779776187569971176508660682509", "modality": "CT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "planes": [{"sop_instance_uid": "2.25.328139425068668213357231776595596034043", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 20.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.291025356772414524612482093608247698877", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 23.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.251450126718808326164283786379363458411", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 26.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.263140022804207801361228311770595686728", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 29.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.162803989944209650964494285241223481544", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 32.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.76079502099557462557949580671912917058", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 35.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.156689889299247074845861183018912685546", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 38.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.81086222254322323448938437055728432494", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 41.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.118380488662957906367294315861966408397", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 44.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.289446472886781553317790398841698705421", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 47.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.249859985148576988962699790544227111215", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 50.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.30090296576822493585414209473839521771", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 53.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}], "files": {"2.25.328139425068668213357231776595596034043": "2.25.328139425068668213357231776595596034043.f6f3497a9e6d82f3.dcm", "2.25.291025356772414524612482093608247698877": "2.25.291025356772414524612482093608247698877.c14100122ee5d98b.dcm", "2.25.251450126718808326164283786379363458411": "2.25.251450126718808326164283786379363458411.c31cd1459265453c.dcm", "2.25.263140022804207801361228311770595686728": "2.25.263140022804207801361228311770595686728.8db1f23d0250d4f4.dcm", "2.25.162803989944209650964494285241223481544": "2.25.162803989944209650964494285241223481544.5dfcc9829f158b54.dcm", "2.25.76079502099557462557949580671912917058": "2.25.76079502099557462557949580671912917058.ed46da235c9be665.dcm", "2.25.156689889299247074845861183018912685546": "2.25.156689889299247074845861183018912685546.e94d006badb4904b.dcm", "2.25.81086222254322323448938437055728432494": "2.25.81086222254322323448938437055728432494.856cae94f91067de.dcm", "2.25.118380488662957906367294315861966408397": "2.25.118380488662957906367294315861966408397.af6d80adc7c37fb4.dcm", "2.25.289446472886781553317790398841698705421": "2.25.289446472886781553317790398841698705421.3f026c1789ab9f11.dcm", "2.25.249859985148576988962699790544227111215": "2.25.249859985148576988962699790544227111215.c9df7ada31861da3.dcm", "2.25.30090296576822493585414209473839521771": "2.25.30090296576822493585414209473839521771.09fc1c1b3b0ad7ef.dcm"}, "left_out": [], "fingerprint": "730849b93be1a7d8a0247fcf9489375434fadf191725813b4e7e114e30cf699d", "attributes": {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL", "Manufacturer": "Builder", "ManufacturerModelName": "Model 1", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "Abdomen 3.0", "PatientPosition": "HFS", "SliceThickness": "3", "SOPClassName": "CT Image Storage", "CallingAETitle": "CT1", "CalledAETitle": "DELINEATE"}}','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.1 s"]',1.79529622217681145666e+09);
INSERT INTO "manifest" VALUES('2.25.187552705747114906758708772924586994752','ac4fa70c91605bb3bf671efad5edb2d129cc7376eadfa36ccd266288886aa6fa','{"series_instance_uid": "2.25.187552705747114906758708772924586994752", "study_instance_uid": "2.25.326502229355487530647111282782822131946", "frame_of_reference_uid": "2.25.104894962779776187569971176508660682509", "modality": "CT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "planes": [{"sop_instance_uid": "2.25.234529037797561704291563999897657452021", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 20.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.277317477615243041445728373168901096963", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 23.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.73295350042796883690645573567368340007", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 26.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.277130738520419170423386410241014305623", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 29.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.72945712709530113144825048577381158758", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 32.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.233983644593854230941655301210934127964", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 35.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.138442309854525298535899836136502388128", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 38.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.32382625947197341688850691741766504361", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 41.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.258458289147289249819819772454005966161", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 44.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.119628558904645096107260017828787971373", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 47.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.106287427927492835049158574224856751522", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 50.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.251975834410135651713770518401484348780", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 53.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}], "files": {"2.25.234529037797561704291563999897657452021": "2.25.234529037797561704291563999897657452021.a4e945e4e293987d.dcm", "2.25.277317477615243041445728373168901096963": "2.25.277317477615243041445728373168901096963.5072dc24d2ef232c.dcm", "2.25.73295350042796883690645573567368340007": "2.25.73295350042796883690645573567368340007.7af76864eac72d1b.dcm", "2.25.277130738520419170423386410241014305623": "2.25.277130738520419170423386410241014305623.d8cedd97ae708548.dcm", "2.25.72945712709530113144825048577381158758": "2.25.72945712709530113144825048577381158758.29c08c9c7bcf9aa5.dcm", "2.25.233983644593854230941655301210934127964": "2.25.233983644593854230941655301210934127964.70c6b2fe552de026.dcm", "2.25.138442309854525298535899836136502388128": "2.25.138442309854525298535899836136502388128.cdbea1fa72235758.dcm", "2.25.32382625947197341688850691741766504361": "2.25.32382625947197341688850691741766504361.3d790bfdaf033d23.dcm", "2.25.258458289147289249819819772454005966161": "2.25.258458289147289249819819772454005966161.1265cd09658f3005.dcm", "2.25.119628558904645096107260017828787971373": "2.25.119628558904645096107260017828787971373.eac55ba9713da7d2.dcm", "2.25.106287427927492835049158574224856751522": "2.25.106287427927492835049158574224856751522.8908a10c6e53af2b.dcm", "2.25.251975834410135651713770518401484348780": "2.25.251975834410135651713770518401484348780.d8d956541310ca53.dcm"}, "left_out": [], "fingerprint": "ac4fa70c91605bb3bf671efad5edb2d129cc7376eadfa36ccd266288886aa6fa", "attributes": {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL", "Manufacturer": "Builder", "ManufacturerModelName": "Model 1", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "Abdomen 3.0", "PatientPosition": "HFS", "SliceThickness": "3", "SOPClassName": "CT Image Storage", "CallingAETitle": "CT1", "CalledAETitle": "DELINEATE"}}','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.1 s"]',1.79529622476145148276e+09);
INSERT INTO "manifest" VALUES('2.25.202715253223142690191261198979407777868','322127087b5cbf2a5d70d9ab1c668a6c022d3e6f206fdcac193ffe1b0caa4ab1','{"series_instance_uid": "2.25.202715253223142690191261198979407777868", "study_instance_uid": "2.25.326502229355487530647111282782822131946", "frame_of_reference_uid": "2.25.104894962779776187569971176508660682509", "modality": "CT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "planes": [{"sop_instance_uid": "2.25.227490280106486398505308329805747187974", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 20.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.240859486720959704918641275324553646881", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 23.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.30220720445462234636308774536355466436", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 26.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.189260337630140273295691358233944430049", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 29.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.100558463068107594636062707026549095692", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 32.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.222664687586654338240483381682433915889", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 35.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.57699783425409530373459313117253727434", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 38.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.46084122107779173617869965410028729508", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 41.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.205731977801732879699657181790562839968", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 44.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.170076013552028904564246383298485139833", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 47.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.216557283408281964356409144180648808001", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 50.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}, {"sop_instance_uid": "2.25.314475858679830144222497505358460443581", "frame_number": null, "position_lps_mm": [-140.0, -140.0, 53.0], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "pixel_spacing_mm": [3.0, 2.5], "rows": 96, "columns": 112}], "files": {"2.25.227490280106486398505308329805747187974": "2.25.227490280106486398505308329805747187974.c5a2289f5b00e048.dcm", "2.25.240859486720959704918641275324553646881": "2.25.240859486720959704918641275324553646881.e8644dceabc89699.dcm", "2.25.30220720445462234636308774536355466436": "2.25.30220720445462234636308774536355466436.6933f0f2028e1d2b.dcm", "2.25.189260337630140273295691358233944430049": "2.25.189260337630140273295691358233944430049.d607272181a0cffb.dcm", "2.25.100558463068107594636062707026549095692": "2.25.100558463068107594636062707026549095692.c07d644483cd82e8.dcm", "2.25.222664687586654338240483381682433915889": "2.25.222664687586654338240483381682433915889.899d35d61b95c353.dcm", "2.25.57699783425409530373459313117253727434": "2.25.57699783425409530373459313117253727434.faf5d7088d8007e2.dcm", "2.25.46084122107779173617869965410028729508": "2.25.46084122107779173617869965410028729508.30292097a4589882.dcm", "2.25.205731977801732879699657181790562839968": "2.25.205731977801732879699657181790562839968.9600c666fe88ad4f.dcm", "2.25.170076013552028904564246383298485139833": "2.25.170076013552028904564246383298485139833.0aa6ee648414b244.dcm", "2.25.216557283408281964356409144180648808001": "2.25.216557283408281964356409144180648808001.b48031c9ee8da02d.dcm", "2.25.314475858679830144222497505358460443581": "2.25.314475858679830144222497505358460443581.827449b6593f99ef.dcm"}, "left_out": [], "fingerprint": "322127087b5cbf2a5d70d9ab1c668a6c022d3e6f206fdcac193ffe1b0caa4ab1", "attributes": {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL", "Manufacturer": "Builder", "ManufacturerModelName": "Model 1", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "Abdomen 3.0", "PatientPosition": "HFS", "SliceThickness": "3", "SOPClassName": "CT Image Storage", "CallingAETitle": "CT1", "CalledAETitle": "DELINEATE"}}','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.0 s"]',1.79529622608621239657e+09);
CREATE TABLE notifications (
    message_uuid TEXT NOT NULL DEFAULT (hex(randomblob(16))) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000), "serialization" TEXT DEFAULT NULL, "consumed" BOOLEAN NOT NULL DEFAULT FALSE, consumed_by_function_id INTEGER,
    FOREIGN KEY (destination_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "operation_outputs" (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms INTEGER,
    completed_at_epoch_ms INTEGER,
    serialization TEXT,
    application_name TEXT DEFAULT NULL,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO "operation_outputs" VALUES('contour/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/1',1,'contour','null',NULL,NULL,1795296222377,1795296223212,'portable_json','delineate',1795296223000);
INSERT INTO "operation_outputs" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/1',1,'deliver','null',NULL,NULL,1795296223300,1795296223419,'portable_json','delineate',1795296223000);
CREATE TABLE output (
	job TEXT NOT NULL, 
	sop_instance_uid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	form TEXT NOT NULL, 
	path TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	PRIMARY KEY (job, sop_instance_uid)
);
INSERT INTO "output" VALUES('2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1','2.25.213111065238322147119311760614257269963','rtstruct','generic, binary','results/2.25.154922275358280492045721462790692474553/730849b93be1a7d8-body-bones-1/rtstruct-generic-binary.dcm','1a212106d26b4d59ec3a116971382a22cce7ff39054e08ae2fe78e47db8a1522');
INSERT INTO "output" VALUES('2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1','2.25.76321070469788629284619315360514192289','seg','binary','results/2.25.154922275358280492045721462790692474553/730849b93be1a7d8-body-bones-1/seg-binary.dcm','35f8f496cdb333db26e75ec9002a023c011e7233de3acdca94dd724f469d173b');
CREATE TABLE queues (
    queue_id TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))),
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec REAL,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec REAL NOT NULL DEFAULT 1.0,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL, "partition_concurrency" INTEGER DEFAULT NULL, "partition_worker_concurrency" INTEGER DEFAULT NULL, "partition_rate_limit_max" INTEGER DEFAULT NULL, "partition_rate_limit_period_sec" REAL DEFAULT NULL);
INSERT INTO "queues" VALUES('03E45EEF46695F851F2B126321F4D451','contour',NULL,1,NULL,NULL,1,0,0.2,1795296212000,1795296212132,'delineate',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('66A2A0EB6EB3C0795B7B72FC69CCBC5D','deliver',NULL,NULL,NULL,NULL,1,1,0.2,1795296212000,1795296212141,'delineate',NULL,1,NULL,NULL);
CREATE TABLE refused (
	series_uid TEXT NOT NULL, 
	sop_instance_uid TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (series_uid, sop_instance_uid)
);
CREATE TABLE series (
	series_uid TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	evidence JSON NOT NULL, 
	left_out JSON NOT NULL, 
	modality TEXT NOT NULL, 
	calling_ae_titles JSON NOT NULL, 
	instances INTEGER NOT NULL, 
	study_uid TEXT, 
	gathered JSON NOT NULL, 
	stamp TEXT NOT NULL, 
	route TEXT, 
	fingerprint TEXT, 
	first_instance_at FLOAT, 
	last_instance_at FLOAT, 
	complete_at FLOAT, 
	look_again_at FLOAT, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (series_uid)
);
INSERT INTO "series" VALUES('2.25.154922275358280492045721462790692474553','complete','','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.1 s"]','[]','CT','["CT1"]',12,'2.25.326502229355487530647111282782822131946','[]','1795296221061745469-12','planning-ct','730849b93be1a7d8a0247fcf9489375434fadf191725813b4e7e114e30cf699d',1.79529622094174551964e+09,1.79529622106174540524e+09,1.79529622215258097654e+09,NULL,1795296222.17346);
INSERT INTO "series" VALUES('2.25.187552705747114906758708772924586994752','complete','','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.1 s"]','[]','CT','["CT1"]',12,'2.25.326502229355487530647111282782822131946','[]','1795296223625745511-12','planning-ct','ac4fa70c91605bb3bf671efad5edb2d129cc7376eadfa36ccd266288886aa6fa',1.79529622354974555966e+09,1.79529622362174558639e+09,1.79529622474882054328e+09,NULL,1.79529622476006698607e+09);
INSERT INTO "series" VALUES('2.25.202715253223142690191261198979407777868','complete','','["12 planes, 3.000 mm apart, regular", "every association that sent to it was released", "CT1 is not known yet, but trusted", "no instance for 1.0 s"]','[]','CT','["CT1"]',12,'2.25.326502229355487530647111282782822131946','[]','1795296225057745534-12','planning-ct','322127087b5cbf2a5d70d9ab1c668a6c022d3e6f206fdcac193ffe1b0caa4ab1',1.79529622498574543002e+09,1.79529622505774545671e+09,1.79529622607673311233e+09,NULL,1.7952962260847725868e+09);
CREATE TABLE streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL, function_id INTEGER NOT NULL DEFAULT 0, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_input (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    inputs TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_input" VALUES('contour/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/1','{"namedArgs":{},"positionalArgs":["2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1",1]}',1795296222000);
INSERT INTO "workflow_input" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/1','{"namedArgs":{},"positionalArgs":["2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1","tps",1]}',1795296223000);
INSERT INTO "workflow_input" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/2','{"namedArgs":{},"positionalArgs":["2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1","tps",2]}',1795296223000);
INSERT INTO "workflow_input" VALUES('contour/2.25.187552705747114906758708772924586994752/ac4fa70c91605bb3/body-bones/1/1','{"namedArgs":{},"positionalArgs":["2.25.187552705747114906758708772924586994752/ac4fa70c91605bb3/body-bones/1",1]}',1795296224000);
INSERT INTO "workflow_input" VALUES('contour/2.25.202715253223142690191261198979407777868/322127087b5cbf2a/body-bones/1/1','{"namedArgs":{},"positionalArgs":["2.25.202715253223142690191261198979407777868/322127087b5cbf2a/body-bones/1",1]}',1795296226000);
CREATE TABLE workflow_output (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    output TEXT,
    error TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_output" VALUES('contour/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/1','null',NULL,1795296223000);
INSERT INTO "workflow_output" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/1','null',NULL,1795296223000);
CREATE TABLE workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL
, "last_fired_at" TEXT DEFAULT NULL, "automatic_backfill" BOOLEAN NOT NULL DEFAULT FALSE, "cron_timezone" TEXT DEFAULT NULL, "queue_name" TEXT DEFAULT NULL, "application_name" TEXT DEFAULT NULL);
CREATE TABLE workflow_status (
    workflow_uuid TEXT PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    application_version TEXT,
    application_id TEXT,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    recovery_attempts INTEGER DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms INTEGER,
    workflow_deadline_epoch_ms INTEGER,
    inputs TEXT,
    started_at_epoch_ms INTEGER,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0
, queue_partition_key TEXT, forked_from TEXT, "owner_xid" TEXT DEFAULT NULL, "parent_workflow_id" TEXT DEFAULT NULL, "serialization" TEXT DEFAULT NULL, "delay_until_epoch_ms" BIGINT DEFAULT NULL, "was_forked_from" BOOLEAN NOT NULL DEFAULT FALSE, "rate_limited" BOOLEAN NOT NULL DEFAULT FALSE, "completed_at" BIGINT, "attributes" TEXT, "schedule_name" TEXT, "debounce_deadline_epoch_ms" BIGINT DEFAULT NULL, "is_debounced" BOOLEAN NOT NULL DEFAULT FALSE, "application_name" TEXT DEFAULT NULL, "creator_xid" TEXT DEFAULT NULL);
INSERT INTO "workflow_status" VALUES('contour/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/1','SUCCESS','contour',NULL,NULL,NULL,NULL,NULL,NULL,'contourer-0',1795296222000,1795296223000,'workflows-1',NULL,NULL,NULL,1,'contour',NULL,NULL,NULL,1795296222000,NULL,10,NULL,NULL,NULL,NULL,'portable_json',NULL,0,0,1795296223000,'null',NULL,NULL,0,'delineate','a2827089-4199-4936-b72f-3112249d9c0d');
INSERT INTO "workflow_status" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/1','SUCCESS','deliver',NULL,NULL,NULL,NULL,NULL,NULL,'dispatcher-0',1795296223000,1795296223000,'workflows-1',NULL,NULL,NULL,1,'deliver',NULL,NULL,NULL,1795296223000,NULL,10,'tps',NULL,NULL,NULL,'portable_json',NULL,0,0,1795296223000,'null',NULL,NULL,0,'delineate','8dd2b59a-6fc2-41ec-a945-322995761c4a');
INSERT INTO "workflow_status" VALUES('deliver/2.25.154922275358280492045721462790692474553/730849b93be1a7d8/body-bones/1/tps/2','DELAYED','deliver',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1795296223000,1795296223000,'workflows-1',NULL,NULL,NULL,0,'deliver',NULL,NULL,NULL,NULL,NULL,10,'tps',NULL,NULL,NULL,'portable_json',1795296823416,0,0,NULL,'null',NULL,NULL,0,'delineate','4627ef33-dfb4-4164-9951-99c901a59ab3');
INSERT INTO "workflow_status" VALUES('contour/2.25.187552705747114906758708772924586994752/ac4fa70c91605bb3/body-bones/1/1','PENDING','contour',NULL,NULL,NULL,NULL,NULL,NULL,'contourer-0',1795296224000,1795296224000,'workflows-1',NULL,NULL,NULL,1,'contour',NULL,NULL,NULL,1795296224000,NULL,10,NULL,NULL,'c76875b1-79b1-40b5-93ee-f25ebad23275',NULL,'portable_json',NULL,0,0,NULL,'null',NULL,NULL,0,'delineate','01c7764f-9bb3-4c7c-a276-7442a1ac9d75');
INSERT INTO "workflow_status" VALUES('contour/2.25.202715253223142690191261198979407777868/322127087b5cbf2a/body-bones/1/1','ENQUEUED','contour',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1795296226000,1795296226000,'workflows-1',NULL,NULL,NULL,0,'contour',NULL,NULL,NULL,NULL,NULL,10,NULL,NULL,NULL,NULL,'portable_json',NULL,0,0,NULL,'null',NULL,NULL,0,'delineate','70765eec-4986-4ba2-971d-86e307019aa0');
CREATE INDEX association_of_series ON association (series_uid);
CREATE INDEX series_of_study ON series (study_uid);
CREATE INDEX workflow_status_created_at_index ON workflow_status (created_at);
CREATE INDEX idx_workflow_topic ON notifications (destination_uuid, topic);
CREATE INDEX "idx_workflow_status_delayed" ON "workflow_status" ("delay_until_epoch_ms") WHERE status = 'DELAYED';
CREATE INDEX "idx_workflow_status_forked_from" ON "workflow_status" ("forked_from") WHERE "forked_from" IS NOT NULL;
CREATE INDEX "idx_workflow_status_parent_workflow_id" ON "workflow_status" ("parent_workflow_id") WHERE "parent_workflow_id" IS NOT NULL;
CREATE UNIQUE INDEX "uq_workflow_status_dedup_id" ON "workflow_status" ("queue_name", "deduplication_id") WHERE "deduplication_id" IS NOT NULL;
CREATE INDEX "idx_workflow_status_pending" ON "workflow_status" ("created_at") WHERE "status" = 'PENDING';
CREATE INDEX "idx_workflow_status_failed" ON "workflow_status" ("status", "created_at") WHERE "status" IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');
CREATE INDEX "idx_workflow_status_rate_limited" ON "workflow_status" ("queue_name", "started_at_epoch_ms") WHERE "rate_limited" = TRUE;
CREATE INDEX "idx_workflow_status_completed_at" ON "workflow_status" ("completed_at") WHERE "completed_at" IS NOT NULL;
CREATE INDEX "idx_workflow_status_started_at" ON "workflow_status" ("started_at_epoch_ms") WHERE "started_at_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_workflow_status_schedule_name" ON "workflow_status" ("schedule_name") WHERE "schedule_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_owner_version"
    ON application_versions ("application_name", "version_name")
    WHERE "application_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_unclaimed_version"
    ON application_versions ("version_name")
    WHERE "application_name" IS NULL;
CREATE INDEX idx_workflow_input_retention
    ON workflow_input (retention_timestamp);
CREATE INDEX idx_workflow_output_retention
    ON workflow_output (retention_timestamp);
CREATE INDEX idx_operation_outputs_retention
    ON operation_outputs (retention_timestamp);
CREATE INDEX "idx_workflow_status_in_flight_v2" ON "workflow_status" ("queue_name", "status", "priority", "created_at", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING');
CREATE INDEX "idx_workflow_status_partition_dequeue_v3" ON "workflow_status" ("queue_name", "status", "queue_partition_key", "priority", "created_at", "workflow_uuid", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING') AND "queue_partition_key" IS NOT NULL;
CREATE INDEX "idx_operation_outputs_completed_at_function_name_v2" ON "operation_outputs" ("completed_at_epoch_ms", "function_name", "application_name");
CREATE INDEX "idx_workflow_status_deadline" ON "workflow_status" ("workflow_deadline_epoch_ms") WHERE "status" IN ('ENQUEUED', 'PENDING', 'DELAYED') AND "workflow_deadline_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_application_versions_timestamp" ON "application_versions" ("version_timestamp" DESC);
CREATE INDEX "idx_application_versions_owner_timestamp" ON "application_versions" ("application_name", "version_timestamp" DESC);
COMMIT;